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
from sandbox.waiting import wait_until
from tests.botctl.conftest import Botctl, Said, Service, Terminal
from tests.remediator.conftest import REPOSITORY, TOKEN, firing, read_rows, webhook

DEPLOY = ("--type", "support", "-e", "staging", "--telegram-token-file", "-")


async def deployed(botctl: Botctl, name: str) -> str:
    said = await botctl("deploy", name, *DEPLOY, stdin="42:telegram")
    assert said.code == 0, said
    return name


# deploying and following


async def test_deploy_follows_the_new_bot_to_its_end(botctl: Botctl) -> None:
    said = await botctl("deploy", "smith", *DEPLOY, stdin="42:very-secret\n")
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [
        "token",
        "image",
        "launch",
        "running",
        "healthy",
        "registered",
    ]
    assert lines[-1].startswith("smith deployed: i-")
    assert "very-secret" not in said.out + said.err


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
    ("words", "stdin", "code", "why"),
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
    ],
)
async def test_a_deploy_that_cannot_be_is_refused_by_name(
    botctl: Botctl, words: tuple[str, ...], stdin: str, code: int, why: str
) -> None:
    said = await botctl(*words, stdin=stdin)
    assert (said.code, said.out) == (code, "")
    assert why in said.err


async def test_recover_by_restart_and_its_timeout(botctl: Botctl, forge: str) -> None:
    said = await botctl("recover", forge)
    assert said.code == 0, said
    assert "restart" in said.out
    assert "forge recovered: restart cured it" in said.out


async def test_a_wait_that_is_over_first_says_so_and_leaves_the_run_alone(botctl: Botctl) -> None:
    said = await botctl("deploy", "slow", *DEPLOY, "--timeout", "0s", stdin="42:x")
    assert said.code == Exit.waiting
    assert "it goes on; botctl watch dep-" in said.err
    assert (await botctl("watch", "slow")).code in (Exit.done, Exit.unknown)


# looking


async def test_status_shows_each_bot(botctl: Botctl, forge: str) -> None:
    said = await botctl("status")
    assert said.code == 0, said
    (row,) = [line for line in said.out.splitlines() if f" {forge} " in line]
    assert row.split()[:4] == [forge, "support", "staging", "active"]
    one = await botctl("status", forge)
    assert "instance id" in one.out
    assert "dep-" in one.out
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
    for said in (await botctl(*words, "--json"), await botctl("--json", *words)):
        assert (said.code, said.out, said.err) == (0, body + "\n", "")


async def test_a_refusal_is_json_too_and_in_words_on_stderr(botctl: Botctl) -> None:
    said = await botctl("explain", "nobody", "--json")
    assert said.code == Exit.unknown
    assert said.json()["error"]["field"] == "bot"
    assert said.err.startswith("botctl: bot: there is no 'nobody'\n  → ")


@pytest.mark.parametrize(
    ("words", "shown"),
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
    botctl: Botctl, forge: str, words: tuple[str, ...], shown: str
) -> None:
    said = await botctl(*words)
    assert (said.code, said.err) == (0, "")
    assert shown in said.out


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
    assert [(one["origin"], one["live"]) for one in listed] == [
        ("rollback", True),
        ("change", False),
        ("deploy", False),
    ]
    assert "(botctl)" in listed[0]["by"]


async def test_a_rolling_update_and_its_end(botctl: Botctl) -> None:
    bot = await deployed(botctl, "roller")
    said = await botctl("rollout", "start", bot, "--reason", "new image", "--yes")
    assert said.code == 0, said
    assert "completed: 1 of 1 bots redeployed" in said.out
    run = said.out.splitlines()[-1].split()[0]
    shown = await botctl("rollout", "show", run)
    assert bot in shown.out
    for word in ("pause", "resume", "cancel"):
        assert (await botctl("rollout", word, run)).code == Exit.failed


async def test_retire_ends_a_bot_and_frees_its_name(botctl: Botctl) -> None:
    bot = await deployed(botctl, "leaver")
    said = await botctl("retire", bot, "--no-snapshot", "--yes")
    assert said.code == 0, said
    assert "leaver retired" in said.out
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

    async def said_yes() -> bool:  # once its gate has asked
        return (await botctl("approve", "prod", "--reason", "seen")).code == 0

    await wait_until(said_yes, 30, "the question", every=0.2)
    assert "prod recovered: restart cured it" in (await botctl("watch", run)).out


async def test_deny_and_cancel_need_a_run(botctl: Botctl) -> None:
    for word in ("approve", "deny", "cancel"):
        said = await botctl(word, "rec-0123456789abcdef")
        assert (said.code, "there is no 'rec-0123456789abcdef'" in said.err) == (Exit.unknown, True)


async def test_a_budget_is_set_shown_and_removed(botctl: Botctl) -> None:
    assert (await botctl("budgets", "set", "fleet", "--usd", "250", "--refuse")).code == 0
    assert "$250.00" in (await botctl("budgets")).out
    assert (await botctl("budgets", "remove", "fleet", "--yes")).code == 0
    assert "no budgets" in (await botctl("budgets")).out


async def test_adopt_says_why_it_cannot(botctl: Botctl) -> None:
    said = await botctl("adopt", "guest", "i-0123456789abcdef0", "--type", "support")
    assert said.code == Exit.failed
    assert "instanceId" in said.err


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
    said = await botctl(*words)
    assert said.code == Exit.usage
    assert "add --yes" in said.err
    asked = (await botctl("audit", "--after", str(before), "--json")).json()
    assert [one for one in asked if "(botctl)" in one["actor"]] == []


# the orchestrator's own state


async def test_backup_for_a_key_and_the_way_back_into_another_database(
    botctl: Botctl, forge: str, tmp_path: Path
) -> None:
    key, file, there = tmp_path / "key.txt", tmp_path / "state.age", tmp_path / "there.db"
    identity = pyrage.x25519.Identity.generate()
    key.write_text(f"{identity}\n")
    said = await botctl("backup", str(file), "--recipient", str(identity.to_public()))
    assert said.code == 0, said
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await botctl("backup", str(file), "--recipient", "age1x")).code == Exit.usage
    refused = await botctl("backup", str(file), "--force", "--recipient", "age1x")
    assert (refused.code, "recipients" in refused.err) == (Exit.failed, True)
    url = f"sqlite+aiosqlite:///{there}"
    words = ("restore", str(file), "--identity-file", str(key), "--database-url", url)
    assert (await botctl(*words)).code == 0
    assert (forge,) in read_rows(there, "SELECT name FROM bots")
    assert (await botctl(*words)).code == Exit.failed  # it is not empty any more


async def test_a_backup_for_a_passphrase_is_sealed_here(
    botctl: Botctl, forge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What age does with it takes seconds and half a gigabyte, and is tested with the remediator."""
    word, file = tmp_path / "word.txt", tmp_path / "state.age"
    word.write_text("many words in a row\n")
    monkeypatch.setattr(pyrage.passphrase, "encrypt", lambda plain, given: given.encode() + b"|" + plain)
    said = await botctl("backup", str(file), "--passphrase-file", str(word))
    assert said.code == 0, said
    given, _, plain = file.read_bytes().partition(b"|")
    assert (given, plain[:2]) == (b"many words in a row", b"\x1f\x8b")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("state")] == ["state.age"]
    assert (await botctl("backup", str(tmp_path / "other"))).code == Exit.usage


# who may ask, and where


async def test_a_wrong_token_a_missing_one_and_a_service_that_is_not_there(
    botctl: Botctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong-token")
    said = await botctl("status", "--token-file", str(wrong))
    assert (said.code, "the bearer token is wrong" in said.err) == (Exit.unauthorised, True)
    monkeypatch.delenv("BOTCTL_TOKEN_FILE")
    assert (await botctl("status")).code == Exit.unauthorised
    monkeypatch.setenv("BOTCTL_TOKEN", TOKEN)
    assert (await botctl("status")).code == 0
    said = await botctl("status", "--url", "http://127.0.0.1:9")
    assert (said.code, "cannot be reached: Connection refused" in said.err) == (Exit.unreachable, True)
    assert (await botctl("status", "--url", "127.0.0.1:9")).code == Exit.usage
    assert (await botctl("status", "--token-file", "/none")).code == Exit.usage


# the real process


async def process(at: Mapping[str, str], *words: str, **more: str) -> Said:
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
    return Said(made.returncode or 0, out.decode(), err.decode())


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
    async def completed(line: str, **more: str) -> Said:
        words = line.split(" ")
        asked = {"_BOTCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return await process(at, **asked, **more)

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
        return terminal.end(), terminal.shown

    code, seen = await asyncio.to_thread(session)
    assert (code, b"typed-secret" in seen) == (0, False)
    assert b"registered" in seen
    assert b"deployed" in seen


async def test_a_person_who_says_no_is_obeyed(at: Mapping[str, str], forge: str) -> None:
    def session(answer: str) -> tuple[int, bytes]:
        terminal = Terminal(at, "retire", forge)
        terminal.until(b"[y/N]")
        if answer:
            terminal.type(answer)
        else:
            terminal.interrupt()
        return terminal.end(), terminal.shown

    code, seen = await asyncio.to_thread(session, "n\n")
    assert (code, b"left as it is" in seen) == (1, True)
    code, seen = await asyncio.to_thread(session, "")
    assert (code, b"interrupted" in seen) == (130, True)


def commands(of: Any = group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, command in of.commands.items():
        found += commands(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]
    return found


def test_every_command_explains_itself_and_takes_what_all_take() -> None:
    assert len(commands()) > 30
    for path in commands():
        command: Any = group
        for name in path:
            command = command.commands[name]
        assert command.help, path
        assert {"url", "token_file", "json"} <= {parameter.name for parameter in command.params}, path
        assert not any("token" in str(one.name) and not one.name.endswith("file") for one in command.params)
