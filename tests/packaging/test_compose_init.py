"""scripts/compose_init.py, as compose.yaml runs it before everything else."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "alerts/alertmanager.yml"


def init(folder: Path, **environment: str) -> dict[str, Any]:
    """Run it; return the configuration it wrote."""
    script: list[str | Path] = [sys.executable, ROOT / "scripts/compose_init.py", SOURCE, folder]
    subprocess.run(script, env=environment, check=True)
    config: dict[str, Any] = yaml.safe_load((folder / "alertmanager.yml").read_text())
    return config


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    init(tmp_path)
    names = ("remediator-token", "grafana-admin-password")
    first = [(tmp_path / name).read_text() for name in names]
    init(tmp_path)
    assert [(tmp_path / name).read_text() for name in names] == first
    assert all(len(secret) >= 20 for secret in first)


def test_no_two_installations_share_a_secret(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        init(folder)
    first, second = [
        {path.read_text() for path in folder.iterdir() if path.suffix != ".yml"} for folder in folders
    ]
    assert not first & second


def test_the_services_of_other_users_can_read_and_nobody_can_write(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        init(tmp_path)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o444}


def test_grafanas_password_can_be_given(tmp_path: Path) -> None:
    init(tmp_path, GRAFANA_ADMIN_PASSWORD="correct horse")
    assert (tmp_path / "grafana-admin-password").read_text() == "correct horse"


def test_without_telegram_settings_nothing_is_sent_there_and_the_webhook_stays(tmp_path: Path) -> None:
    config = init(tmp_path)
    original = yaml.safe_load(SOURCE.read_text())
    assert config["route"] == original["route"]
    assert config["inhibit_rules"] == original["inhibit_rules"]
    assert [receiver["name"] for receiver in config["receivers"]] == [
        receiver["name"] for receiver in original["receivers"]
    ]
    assert not any("telegram_configs" in receiver for receiver in config["receivers"])
    webhooks = [receiver for receiver in config["receivers"] if receiver["name"] == "remediator"]
    assert webhooks[0]["webhook_configs"][0]["url"] == "http://127.0.0.1:19000/alerts"


def test_the_token_that_alertmanager_shows_is_the_remediators(tmp_path: Path) -> None:
    config = init(tmp_path)
    files = {
        hook["http_config"]["authorization"]["credentials_file"]
        for receiver in config["receivers"]
        for hook in receiver.get("webhook_configs", [])
    }
    assert files == {"remediator-token"}  # relative: beside the configuration


def test_telegram_settings_of_the_remediator_serve_alertmanager_too(tmp_path: Path) -> None:
    config = init(
        tmp_path, BOT_REMEDIATOR_TELEGRAM_TOKEN="a-token", BOT_REMEDIATOR_TELEGRAM_CHAT_ID="-100200"
    )
    telegrams = [
        telegram for receiver in config["receivers"] for telegram in receiver.get("telegram_configs", [])
    ]
    assert telegrams
    assert {(telegram["bot_token"], telegram["chat_id"]) for telegram in telegrams} == {("a-token", -100200)}


@pytest.mark.parametrize("variable", ["BOT_REMEDIATOR_TELEGRAM_TOKEN", "BOT_REMEDIATOR_TELEGRAM_CHAT_ID"])
def test_half_the_telegram_settings_are_none(tmp_path: Path, variable: str) -> None:
    config = init(tmp_path, **{variable: "1"})
    assert not any("telegram_configs" in receiver for receiver in config["receivers"])
