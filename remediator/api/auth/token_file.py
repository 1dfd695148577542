"""The API's token where no setting gives one: made at the first start, in a file that botctl finds."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
from pydantic import SecretStr

from remediator.settings import Settings, SettingsError
from remediator.store.database import sqlite_file

FILE: Final = "remediator-token"
_OTHERS: Final = 0o007  # of a file's mode

log = structlog.get_logger()


def token_file(settings: Settings) -> Path | None:
    """Return the file of the token that is made here; None where the settings give one.

    SettingsError where there is no place for one: replicas on one PostgreSQL must have the same.
    """
    if settings.token is not None:
        return None
    if settings.state_dir is not None:
        return settings.state_dir.absolute() / FILE
    database = sqlite_file(settings.database_url)
    if database is None:
        raise SettingsError(
            "BOT_REMEDIATOR_TOKEN_FILE: is not set, and all replicas on one PostgreSQL have the same token. "
            f"`(umask 077; openssl rand -hex 32 >{FILE})` makes one; or set BOT_REMEDIATOR_STATE_DIR to a "
            "folder that all share, and it is made there"
        )
    return database.absolute().parent / FILE


def read_or_make(path: Path) -> SecretStr:
    """Return the token in that file, which is made, for its owner alone, if there is none.

    SettingsError where it cannot be kept there.
    """
    try:
        if not path.exists():
            _make(path)
            log.info("made a token for the API", file=str(path))
        mode, token = path.stat().st_mode, path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(
            f"BOT_REMEDIATOR_STATE_DIR: the API's token cannot be kept in {path}: {reason}; "
            "make its folder, writable by this user, or name a token with BOT_REMEDIATOR_TOKEN_FILE"
        ) from None
    if mode & _OTHERS:
        raise SettingsError(f"{path}: everybody on this machine may use the API's token; chmod o= {path}")
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise SettingsError(f"{path}: holds no token; remove it, and the next start makes one")
    return SecretStr(token)


def _make(path: Path) -> None:
    """Write a token, whole or not at all; a process that comes second leaves the first's."""
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def announced(port: int, path: Path | None) -> Iterator[None]:
    """Have `token-PORT` in this user's state folder lead to the file while this lasts, for botctl.

    A home that cannot be written is no fault: botctl then looks beside the database.
    """
    try:
        home = os.environ.get("XDG_STATE_HOME")  # specifications.freedesktop.org/basedir
        link = (Path(home) if home else Path.home() / ".local/state") / "bot-orchestrator" / f"token-{port}"
        link.unlink(missing_ok=True)  # of a life that was killed
        if path is not None:
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link.symlink_to(path)
    except (OSError, RuntimeError):
        path = None
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                link.unlink()
