"""Write the secrets and Alertmanager's configuration into one volume: compose.yaml's `init`, before all else.

Secrets are made once and kept. The configuration is alerts/alertmanager.yml with the Telegram settings of the
remediator put in; without them the Telegram receivers are left out, so that nothing is sent anywhere.
"""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def keep_or_write(path: Path, value: str) -> None:
    """Write the value where there is none yet."""
    if not path.exists():
        write(path, value)


def write(path: Path, value: str) -> None:
    """Write a file whole or not at all, readable to the users of all services: only they mount it."""
    new = path.with_suffix(".new")
    new.write_text(value)
    new.chmod(0o444)
    new.replace(path)


def render(source: str, environment: Mapping[str, str]) -> str:
    """Return alertmanager.yml with the Telegram token and chat in place, or without Telegram."""
    token = environment.get("BOT_REMEDIATOR_TELEGRAM_TOKEN", "")
    chat = environment.get("BOT_REMEDIATOR_TELEGRAM_CHAT_ID", "")
    config: dict[str, Any] = yaml.safe_load(source)
    for receiver in config["receivers"]:
        if not (token and chat):
            receiver.pop("telegram_configs", None)
        for telegram in receiver.get("telegram_configs", []):
            telegram.update(bot_token=token, chat_id=int(chat))
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def main(source: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Write all files; `source` is alerts/alertmanager.yml."""
    password = environment.get("GRAFANA_ADMIN_PASSWORD") or secrets.token_urlsafe(16)
    keep_or_write(folder / "remediator-token", secrets.token_urlsafe(32))
    keep_or_write(folder / "grafana-admin-password", password)
    write(folder / "alertmanager.yml", render(source.read_text(), environment))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), os.environ)
