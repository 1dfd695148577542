"""Every command against a real remediator, and what scripts build on: JSON, exit codes, no secrets."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pyrage
import pytest

from botctl.__main__ import botctl as group
from botctl.errors import Exit
from sandbox.process.waiting import wait_until
from tests.botctl.conftest import Botctl, Result, Service, Terminal
from tests.remediator.conftest import REPOSITORY, TOKEN, firing, read_rows, webhook

DEPLOY = ("--type", "support", "-e", "staging", "--telegram-token-file", "-")


async def deployed(botctl: Botctl, name: str) -> str:
    result = await botctl("deploy", name, *DEPLOY, stdin="42:telegram")
    assert result.code == 0, result
    return name


# deploying and following


async def test_deploy_follows_the_new_bot_to_its_end(botctl: Botctl) -> None:
    result = await botctl("deploy", "smith", *DEPLOY, stdin="42:very-secret\n")
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [
        "token",
        "image",
        "launch",
        "running",
        "healthy",
        "registered",
    ]
    assert lines[-1].startswith("smith deployed: i-")
    assert "very-secret" not in result.out + result.err


async def test_deploy_without_waiting_gives_the_id_that_watch_takes(botctl: Botctl) -> None:
    begun = (await botctl("deploy", "mason", *DEPLOY, "--no-wait", "--json", stdin="42:x")).json()
    assert begun["status"] == "running"
    watched = await botctl("watch", begun["deploymentId"], "--json")
    views = [json.loads(line) for line in watched.out.splitlines()]
    assert views[-1]["status"] == "deployed"
    assert {view["deploymentId"] for view in views} == {begun["deploymentId"]}
    ended = await botctl("--json", "watch", begun["deploymentId"])
    assert json.loads(ended.out) == views[-1] | {
        key: ended.json()[key] for key in ("estimatedSeconds", "estimatedFinish")
    }


@pytest.mark.parametrize(
    ("words", "stdin", "code", "reason"),
    [
        (
            ("deploy", "x", "--type", "nonsense", "--telegram-token-file", "-"),
            "42:x",
            1,
            "botType: 'nonsense'",
        ),
        (("deploy", "X!", *DEPLOY), "42:x", 1, "botName: must have 1 to 63 of a-z"),
        (("deploy", "x", "--type", "support"), "", 2, "the Telegram token is not known"),
        (("deploy", "x", *DEPLOY), "two words", 2, "does not hold one word"),
        (("deploy", "x", "--type", "support", "--telegram-token-file", "/none"), "", 2, "cannot read /none"),
        (("deploy", "x", *DEPLOY, "--set", "storage"), "42:x", 2, "not FIELD=VALUE"),
        (("deploy", "x", *DEPLOY, "--set", "memory=lots"), "42:x", 1, "memory"),
        (("deploy", "x", *DEPLOY, "--allow-from", "@jo"), "42:x", 2, "not a valid integer"),
        (("deploy", "x", *DEPLOY, "--allow-from", "-5"), "42:x", 1, "allowFrom.0: must be a person's"),
        (
            ("deploy", "x", *DEPLOY, "--group", "-5", "--set", "groups=[-6]"),
            "42:x",
            1,
            "groups is given twice",
        ),
    ],
)
async def test_a_deploy_that_cannot_be_is_refused_by_name(
    botctl: Botctl, words: tuple[str, ...], stdin: str, code: int, reason: str
) -> None:
    result = await botctl(*words, stdin=stdin)
    assert (result.code, result.out) == (code, "")
    assert reason in result.err


async def test_recover_by_restart_and_its_timeout(botctl: Botctl, forge: str) -> None:
    result = await botctl("recover", forge)
    assert result.code == 0, result
    assert "restart" in result.out
    assert "forge recovered: restart cured it" in result.out


async def test_a_wait_that_is_over_first_says_so_and_leaves_the_run_alone(botctl: Botctl) -> None:
    result = await botctl("deploy", "slow", *DEPLOY, "--timeout", "0s", stdin="42:x")
    assert result.code == Exit.waiting
    assert "it goes on; botctl watch dep-" in result.err
    assert (await botctl("watch", "slow")).code in (Exit.done, Exit.unknown)


# looking


async def test_status_shows_each_bot(botctl: Botctl, forge: str) -> None:
    result = await botctl("status")
    assert result.code == 0, result
    (row,) = [line for line in result.out.splitlines() if f" {forge} " in line]
    assert row.split()[:4] == [forge, "support", "staging", "active"]
    detail = await botctl("status", forge)
    assert "instance id" in detail.out
    assert "dep-" in detail.out
    assert (await botctl("status", "nobody")).code == Exit.unknown


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("holds",), "/holds"),
        (("versions", "forge"), "/bots/forge/versions"),
        (("versions", "forge", "1"), "/bots/forge/versions/1"),
        (("diff", "forge", "1", "1"), "/bots/forge/diff?from=1&to=1"),
        (("audit", "--after", "0", "--limit", "5"), "/audit?after=0&limit=5"),
        (("explain", "forge"), "/bots/forge/explain"),
        (("budgets",), "/budgets"),
        (("rollout", "list"), "/rollouts"),
    ],
)
async def test_json_is_what_the_service_answered_byte_by_byte(
    botctl: Botctl, service: Service, forge: str, words: tuple[str, ...], path: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    async with aiohttp.ClientSession() as session, session.get(service.url + path, headers=headers) as answer:
        body = await answer.text()
    for result in (await botctl(*words, "--json"), await botctl("--json", *words)):
        assert (result.code, result.out, result.err) == (0, body + "\n", "")


async def test_a_refusal_is_json_too_and_in_words_on_stderr(botctl: Botctl) -> None:
    result = await botctl("explain", "nobody", "--json")
    assert result.code == Exit.unknown
    assert result.json()["error"]["field"] == "bot"
    assert result.err.startswith("botctl: bot: there is no 'nobody'\n  → ")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("explain", "forge"), "ended as deployed"),
        (("audit", "--bot", "forge"), "run.deployed"),
        (("versions", "forge"), "deployed as support"),
        (("versions", "forge", "1"), "instance_type"),
        (("diff", "forge", "1", "1"), "no difference"),
        (("drift",), "as it was declared"),
        (("reconcile", "forge"), "nothing to do"),
        (("orphans",), "no orphans"),
        (("orphans", "reap", "i-0123456789abcdef0"), "it is no orphan of ours"),
        (("cost",), "prices: "),
        (("recommendations",), "nothing to change"),
    ],
)
async def test_what_is_looked_at_is_shown(
    botctl: Botctl, forge: str, words: tuple[str, ...], text: str
) -> None:
    result = await botctl(*words)
    assert (result.code, result.err) == (0, "")
    assert text in result.out


# who may talk to a bot


async def test_who_waits_is_listed_and_admitted(botctl: Botctl, service: Service) -> None:
    words = ("--dm-policy", "pairing", "--allow-from", "7", "--group", "-1001234567890")
    result = await botctl("deploy", "porter", *DEPLOY, *words, "--fallback", "openai/gpt-5", stdin="42:x")
    assert result.code == 0, result
    config = (await botctl("versions", "porter", "1", "--json")).json()["config"]
    assert (config["dm_policy"], config["allow_from"], config["groups"]) == ("pairing", [7], [-1001234567890])
    assert config["fallbacks"] == ["openai/gpt-5"]
    assert "nobody waits: who writes to porter gets a code" in (await botctl("pairing", "list", "porter")).out
    code = await service.cloud.ask_to_pair("porter", 123456789, "Jo")
    listed = await botctl("pairing", "list", "porter")
    (row,) = [line for line in listed.out.splitlines() if code in line]
    assert row.split()[:3] == [code, "123456789", "Jo"]
    approved = await botctl("pairing", "approve", "porter", code)
    assert approved.code == 0, approved
    assert "123456789 may talk to porter" in approved.out
    assert "botctl config porter --set 'allow_from=[7,123456789]'" in approved.out
    again = await botctl("pairing", "approve", "porter", code)
    assert again.code == Exit.unknown
    assert "nobody waits with this code" in again.err


async def test_a_deploy_that_nobody_can_talk_to_says_so_and_how_to_mend_it(botctl: Botctl) -> None:
    result = await botctl("deploy", "hermit", *DEPLOY, stdin="42:x")
    assert result.code == 0, result
    assert "botctl pairing approve hermit CODE" in result.err


# changing


async def test_a_change_its_redeploy_and_the_way_back(botctl: Botctl) -> None:
    bot = await deployed(botctl, "clerk")
    changed = await botctl("config", bot, "--set", "heartbeat=21m", "--set", "probe.port=18790")
    assert "+ 21m" in changed.out
    assert "heartbeat" in (await botctl("diff", bot)).out
    redeployed = await botctl("redeploy", bot, "--reason", "a change", "--yes")
    assert (redeployed.code, redeployed.out.splitlines()[-1].split()[:2]) == (0, [bot, "deployed:"])
    back = await botctl("rollback", bot, "--reason", "a mistake", "--yes")
    assert back.code == 0, back
    listed = (await botctl("versions", bot, "--json")).json()
    assert [(version["origin"], version["live"]) for version in listed] == [
        ("rollback", True),
        ("change", False),
        ("deploy", False),
    ]
    assert "(botctl)" in listed[0]["by"]


async def test_a_rolling_update_and_its_end(botctl: Botctl) -> None:
    bot = await deployed(botctl, "roller")
    result = await botctl("rollout", "start", bot, "--reason", "new image", "--yes")
    assert result.code == 0, result
    assert "completed: 1 of 1 bots redeployed" in result.out
    run = result.out.splitlines()[-1].split()[0]
    listing = await botctl("rollout", "show", run)
    assert bot in listing.out
    for word in ("pause", "resume", "cancel"):
        assert (await botctl("rollout", word, run)).code == Exit.failed


async def test_retire_ends_a_bot_and_frees_its_name(botctl: Botctl) -> None:
    bot = await deployed(botctl, "leaver")
    result = await botctl("retire", bot, "--no-snapshot", "--yes")
    assert result.code == 0, result
    assert "leaver retired" in result.out
    assert (await botctl("status", bot)).code == Exit.unknown


async def test_pause_holds_and_resume(botctl: Botctl, forge: str) -> None:
    paused = (await botctl("pause", "--bot", forge, "--reason", "release", "--for", "2h", "--json")).json()
    listed = await botctl("holds")
    assert ["maintenance", "bot", forge] == listed.out.split("\n")[3].split()[1:4]
    assert (await botctl("resume", "--bot", forge)).code == 0
    assert (await botctl("resume", str(paused["id"]))).code == Exit.unknown
    assert (await botctl("resume", "--fleet")).code == Exit.unknown
    assert (await botctl("pause", "--reason", "x")).code == Exit.usage


async def test_a_tier_that_waits_for_a_yes_gets_it_by_the_bots_name(botctl: Botctl, service: Service) -> None:
    wish = ("--type", "support", "-e", "production", "--telegram-token-file", "-")
    assert (await botctl("deploy", "prod", *wish, stdin="42:x")).code == 0
    assert (await botctl("approve", "prod")).code == Exit.unknown
    await service.cloud.fault("prod", "die")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{service.url}/alerts", json=webhook(firing("prod"))) as answer,
    ):
        (run,) = (await answer.json())["recoveries"]

    async def approved() -> bool:  # once its gate has asked
        return (await botctl("approve", "prod", "--reason", "seen")).code == 0

    await wait_until(approved, 30, "the question", every=0.2)
    assert "prod recovered: restart cured it" in (await botctl("watch", run)).out


async def test_deny_and_cancel_need_a_run(botctl: Botctl) -> None:
    for word in ("approve", "deny", "cancel"):
        result = await botctl(word, "rec-0123456789abcdef")
        assert (result.code, "there is no 'rec-0123456789abcdef'" in result.err) == (Exit.unknown, True)


async def test_a_budget_is_set_shown_and_removed(botctl: Botctl) -> None:
    assert (await botctl("budgets", "set", "fleet", "--usd", "250", "--refuse")).code == 0
    assert "$250.00" in (await botctl("budgets")).out
    assert (await botctl("budgets", "remove", "fleet", "--yes")).code == 0
    assert "no budgets" in (await botctl("budgets")).out


async def test_adopt_says_why_it_cannot(botctl: Botctl) -> None:
    result = await botctl("adopt", "guest", "i-0123456789abcdef0", "--type", "support")
    assert result.code == Exit.failed
    assert "instanceId" in result.err


@pytest.mark.parametrize(
    "words",
    [
        ("retire", "forge"),
        ("redeploy", "forge", "--reason", "x"),
        ("rollback", "forge", "--reason", "x"),
        ("recover", "forge", "--method", "reboot"),
        ("recover", "forge", "--method", "redeploy"),
        ("rollout", "start", "forge", "--reason", "x"),
        ("reconcile", "forge", "--apply"),
        ("config", "forge", "--set", "heartbeat=1m", "--apply"),
        ("orphans", "reap", "i-0123456789abcdef0", "--apply"),
        ("budgets", "remove", "fleet"),
    ],
)
async def test_what_destroys_needs_a_yes_where_nobody_can_be_asked(
    botctl: Botctl, forge: str, words: tuple[str, ...]
) -> None:
    before = (await botctl("audit", "--limit", "1", "--json")).json()[-1]["id"]
    result = await botctl(*words)
    assert result.code == Exit.usage
    assert "add --yes" in result.err
    entries = (await botctl("audit", "--after", str(before), "--json")).json()
    assert [entry for entry in entries if "(botctl)" in entry["actor"]] == []


# the orchestrator's own state


async def test_backup_for_a_key_and_the_way_back_into_another_database(
    botctl: Botctl, forge: str, tmp_path: Path
) -> None:
    key, file, restored = tmp_path / "key.txt", tmp_path / "state.age", tmp_path / "restored.db"
    identity = pyrage.x25519.Identity.generate()
    key.write_text(f"{identity}\n")
    result = await botctl("backup", str(file), "--recipient", str(identity.to_public()))
    assert result.code == 0, result
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await botctl("backup", str(file), "--recipient", "age1x")).code == Exit.usage
    refused = await botctl("backup", str(file), "--force", "--recipient", "age1x")
    assert (refused.code, "recipients" in refused.err) == (Exit.failed, True)
    url = f"sqlite:///{restored}"
    words = ("restore", str(file), "--identity-file", str(key), "--database-url", url)
    assert (await botctl(*words)).code == 0
    assert (forge,) in read_rows(restored, "SELECT name FROM bots")
    assert (await botctl(*words)).code == Exit.failed  # it is not empty any more


async def test_a_backup_for_a_passphrase_is_sealed_here(
    botctl: Botctl, forge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What age does with it takes seconds and half a gigabyte, and is tested with the remediator."""
    word, file = tmp_path / "word.txt", tmp_path / "state.age"
    word.write_text("many words in a row\n")
    file.write_bytes(b"a good backup")

    def seal(plain: bytes, passphrase: str) -> bytes:
        assert file.read_bytes() == b"a good backup", "it is there until the new one is whole"
        return passphrase.encode() + b"|" + plain

    monkeypatch.setattr(pyrage.passphrase, "encrypt", seal)
    result = await botctl("backup", str(file), "--force", "--passphrase-file", str(word))
    assert result.code == 0, result
    passphrase, _, plain = file.read_bytes().partition(b"|")
    assert (passphrase, plain[:2]) == (b"many words in a row", b"\x1f\x8b")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("state")] == ["state.age"]
    assert (await botctl("backup", str(tmp_path / "other"))).code == Exit.usage


# who may ask, and where


async def test_a_wrong_token_a_missing_one_and_a_service_that_is_not_there(
    botctl: Botctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-token")
    result = await botctl("status", "--token-file", str(wrong))
    assert (result.code, "the bearer token is wrong" in result.err) == (Exit.unauthorised, True)
    assert "name its file with --token-file" in result.err
    monkeypatch.delenv("BOTCTL_TOKEN_FILE")
    assert (await botctl("status")).code == Exit.unauthorised
    monkeypatch.setenv("BOT_REMEDIATOR_TOKEN", TOKEN)  # as on the machine of the service, with its settings
    assert (await botctl("status")).code == 0
    monkeypatch.delenv("BOT_REMEDIATOR_TOKEN")
    monkeypatch.setenv("BOTCTL_TOKEN", TOKEN)
    assert (await botctl("status")).code == 0
    result = await botctl("status", "--url", "http://127.0.0.1:9")
    assert (result.code, "cannot be reached: Connection refused" in result.err) == (Exit.unreachable, True)
    assert (await botctl("status", "--url", "127.0.0.1:9")).code == Exit.usage
    assert (await botctl("status", "--token-file", "/none")).code == Exit.usage


# the real process


async def process(at: Mapping[str, str], *words: str, **more: str) -> Result:
    made = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "botctl",
        *words,
        cwd=REPOSITORY,
        env={**os.environ, **at, **more},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await made.communicate()
    return Result(made.returncode or 0, out.decode(), err.decode())


async def test_the_process_ends_with_the_code_that_help_promises(at: Mapping[str, str], forge: str) -> None:
    helped = await process(at, "--help")
    assert helped.code == 0
    for code in Exit:
        assert f"{code.value} " in helped.out
        assert code.meaning in helped.out
    assert (await process(at, "explain", forge)).code == Exit.done
    assert (await process(at, "release", forge)).code == Exit.failed
    assert (await process(at, "status", "--frobnicate")).code == Exit.usage
    assert (await process(at, "explain", "nobody")).code == Exit.unknown


async def test_a_shell_completes_the_names_of_bots(at: Mapping[str, str], forge: str) -> None:
    async def completed(line: str, **more: str) -> Result:
        words = line.split(" ")
        variables = {
            "_BOTCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        }
        return await process(at, **variables, **more)

    assert "plain,forge" in (await completed("botctl explain fo")).out
    assert "plain,explain" in (await completed("botctl ex")).out
    away = await completed("botctl explain fo", BOTCTL_URL="http://127.0.0.1:9")
    assert (away.out.strip(), away.err) == ("", "")
    for shell in ("bash", "zsh", "fish"):
        assert "_BOTCTL_COMPLETE" in (await process(at, "completion", shell)).out


async def test_a_person_is_asked_for_the_token_and_sees_a_bar(at: Mapping[str, str]) -> None:
    def session() -> tuple[int, bytes]:
        terminal = Terminal(at, "deploy", "pty", "--type", "support", "-e", "staging")
        terminal.until(b"Telegram token: ")
        terminal.type("42:typed-secret\n")
        terminal.until(b"\xe2\x94\x81")  # of the bar
        return terminal.end(), terminal.output

    code, output = await asyncio.to_thread(session)
    assert (code, b"typed-secret" in output) == (0, False)
    assert b"registered" in output
    assert b"deployed" in output


async def test_a_person_who_says_no_is_obeyed(at: Mapping[str, str], forge: str) -> None:
    def session(answer: str) -> tuple[int, bytes]:
        terminal = Terminal(at, "retire", forge)
        terminal.until(b"[y/N]")
        if answer:
            terminal.type(answer)
        else:
            terminal.interrupt()
        return terminal.end(), terminal.output

    code, output = await asyncio.to_thread(session, "n\n")
    assert (code, b"left as it is" in output) == (1, True)
    code, output = await asyncio.to_thread(session, "")
    assert (code, b"interrupted" in output) == (130, True)


def commands(of: Any = group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    names: list[tuple[str, ...]] = []
    for name, command in of.commands.items():
        names += commands(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]
    return names


def test_every_command_explains_itself_and_takes_what_all_take() -> None:
    assert len(commands()) > 30
    for path in commands():
        command: Any = group
        for name in path:
            command = command.commands[name]
        assert command.help, path
        assert {"url", "token_file", "json"} <= {parameter.name for parameter in command.params}, path
        assert not any(
            "token" in str(option.name) and not option.name.endswith("file") for option in command.params
        )
