"""The token of a service on this machine, where the service keeps it: nobody need say where that is."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

FILE: Final = "remediator-token"
DATABASE: Final = "sqlite:///remediator.db"  # the service's own default


def local_token(url: str, environment: Mapping[str, str]) -> str:
    """Return the token for that URL; empty where it is no service of this machine or no token can be read.

    In order: the service's own settings in the environment, what the running service has announced for its
    port, and the state folder.
    """
    port = _local_port(url)
    if port is None:
        return ""
    if token := environment.get("BOT_REMEDIATOR_TOKEN"):
        return token.strip()
    return next(filter(None, map(_read, _files(port, environment))), "")


def _local_port(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        is_local = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return None
    return port if is_local else None


def _files(port: int, environment: Mapping[str, str]) -> Iterator[Path]:
    if named := environment.get("BOT_REMEDIATOR_TOKEN_FILE"):
        yield Path(named)
    home = environment.get("XDG_STATE_HOME")
    state = Path(home) if home else Path(environment.get("HOME", "/")) / ".local/state"
    yield state / "bot-orchestrator" / f"token-{port}"
    if folder := environment.get("BOT_REMEDIATOR_STATE_DIR"):
        yield Path(folder) / FILE
    database = environment.get("BOT_REMEDIATOR_DATABASE_URL", DATABASE)
    if match := re.fullmatch(r"sqlite(?:\+aiosqlite)?:///([^?]+)(?:\?.*)?", database):
        yield Path(match[1]).parent / FILE


def _read(path: Path) -> str:
    """Return the file's one word; empty where there is none that may be read."""
    try:
        word = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return word if word.isascii() and word.isprintable() and " " not in word else ""
