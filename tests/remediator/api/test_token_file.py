"""A token where no setting gives one: made once, for its owner alone, and found by botctl."""

from __future__ import annotations

import asyncio
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from botctl.credentials import DATABASE, local_token
from remediator.api.auth.token_file import FILE, announced, read_or_make, token_file
from remediator.settings import Settings, SettingsError
from sandbox.process.processes import Process, answers, free_port
from tests.remediator.conftest import QUICK, REPOSITORY, Api, environment, settings_for


def without_token(database: Path, **changes: Any) -> Settings:
    return settings_for(database, token=None, **changes)


def test_it_is_kept_beside_the_database_or_where_a_setting_says(tmp_path: Path) -> None:
    assert token_file(without_token(tmp_path / "a" / "x.db")) == tmp_path / "a" / FILE
    assert token_file(without_token(tmp_path / "x.db", state_dir=tmp_path / "b")) == tmp_path / "b" / FILE
    assert token_file(settings_for(tmp_path / "x.db")) is None, "the settings give one"


def test_on_postgresql_replicas_are_told_to_share_one(tmp_path: Path) -> None:
    shared = {"database_url": "postgresql://bot@127.0.0.1/bots"}
    with pytest.raises(SettingsError, match=r"BOT_REMEDIATOR_TOKEN_FILE: is not set.*openssl rand"):
        token_file(without_token(tmp_path / "x.db", **shared))
    settings = without_token(tmp_path / "x.db", **shared, state_dir=tmp_path)
    assert token_file(settings) == tmp_path / FILE


def test_it_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    token = read_or_make(tmp_path / FILE).get_secret_value()
    assert len(token) >= 32
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert read_or_make(tmp_path / FILE).get_secret_value() == token
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert read_or_make(tmp_path.joinpath("other").with_suffix(".x")).get_secret_value() != token


def test_services_that_start_together_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: read_or_make(tmp_path / FILE).get_secret_value(), range(64)))
    assert len(set(tokens)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("text", ["", "\n", "two words", "two\nlines", "tökèn"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"holds no token; remove it"):
        read_or_make(path)
    path.unlink()
    assert read_or_make(path)


def test_a_token_that_everybody_may_read_is_none_and_the_remedy_works(tmp_path: Path) -> None:
    path = tmp_path / FILE
    token = read_or_make(path).get_secret_value()
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod o= ") as refused:
        read_or_make(path)
    assert token not in str(refused.value)
    path.chmod(0o640)  # what `chmod o=` leaves: a group, such as Alertmanager's, may read it
    assert read_or_make(path).get_secret_value() == token


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"BOT_REMEDIATOR_STATE_DIR: .*No such file or directory"):
        read_or_make(tmp_path / "none" / FILE)


# botctl


def test_botctl_repeats_the_default_of_the_service() -> None:
    assert Settings.model_fields["database_url"].default == DATABASE


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite"])
@pytest.mark.parametrize("state_dir", [None, "state"])
def test_botctl_looks_where_the_service_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, state_dir: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("data", "state"):
        Path(folder).mkdir()
    database_url = f"{scheme}:///data/remediator.db"
    path = token_file(without_token(tmp_path, database_url=database_url, state_dir=state_dir))
    assert path is not None
    token = read_or_make(path).get_secret_value()
    variables = {"BOT_REMEDIATOR_DATABASE_URL": database_url, "HOME": str(tmp_path)}
    if state_dir is not None:
        variables["BOT_REMEDIATOR_STATE_DIR"] = state_dir
    assert local_token("http://127.0.0.1:19000", variables) == token


def test_botctl_takes_the_settings_of_the_service_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url, home = "http://127.0.0.1:19000", {"HOME": str(tmp_path)}
    assert local_token(url, home) == ""
    token = read_or_make(tmp_path / FILE).get_secret_value()
    assert local_token(url, home) == token, "beside the default database"
    named = read_or_make(tmp_path / "named").get_secret_value()
    assert local_token(url, home | {"BOT_REMEDIATOR_TOKEN_FILE": "named"}) == named
    assert local_token(url, home | {"BOT_REMEDIATOR_TOKEN": "word"}) == "word"


def test_botctl_finds_what_a_service_announces_for_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    token = read_or_make(tmp_path / "data").get_secret_value()
    at = {"XDG_STATE_HOME": str(tmp_path / "home")}
    monkeypatch.setenv(*next(iter(at.items())))
    with announced(19377, tmp_path / "data"):
        for url in ("http://127.0.0.1:19377", "http://localhost:19377/x", "https://[::1]:19377"):
            assert local_token(url, at) == token, url
        for url in ("http://127.0.0.1:19378", "http://10.0.0.1:19377", "http://evil.example:19377", "x"):
            assert local_token(url, at) == "", url
        with announced(19377, None):  # another life of it, which was given its token
            assert local_token("http://127.0.0.1:19377", at) == ""
    assert list((tmp_path / "home" / "bot-orchestrator").iterdir()) == []


def test_a_home_that_cannot_be_written_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with announced(19377, tmp_path / FILE):
        assert (tmp_path / "file").is_file()


# the service


async def test_a_service_without_settings_makes_its_token_and_says_where(tmp_path: Path) -> None:
    """As a stranger starts it; botctl, started anywhere by the same user, needs no word."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {
        **QUICK,
        "listen": f"127.0.0.1:{port}",
        "database_url": f"sqlite:///{tmp_path}/remediator.db",
        "aws_endpoint_url": "http://127.0.0.1:9",
    }
    state = {"XDG_STATE_HOME": str(tmp_path / "home")}
    process = Process(
        [sys.executable, "-W", "error", "-m", "remediator"],
        name="remediator",
        log=tmp_path / "remediator.log",
        cwd=REPOSITORY,
        env=environment(settings) | state,
        ready=answers(f"{url}/-/ready"),
        grace=20,
    )
    async with process:
        token = (tmp_path / FILE).read_text().strip()
        log = process.log.read_text()
        assert f"event=listening url={url}" in log
        assert f"token_in={tmp_path / FILE}" in log
        assert local_token(url, state) == token
        assert await status(url, token="") == 401
        assert await status(url, token=token) == 200
        botctl = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "botctl", "--url", url, "status"),
            cwd=REPOSITORY,
            env=state,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await botctl.communicate()
        assert (botctl.returncode, b"0 bots" in out) == (0, True), out
        await asyncio.to_thread(process.kill9)
        await process.start()
        assert await status(url, token=token) == 200, "the token outlives the process"
    assert local_token(url, state) == "", "an orderly stop takes the link away"
    assert token not in process.log.read_text()


async def status(url: str, token: str) -> int:
    async with aiohttp.ClientSession() as session:
        return (await Api(url, session, token).call("GET", "/dashboard")).status
