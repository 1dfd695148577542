"""`bot-remediator backup` and `restore`: the state into a file, and out of one into an empty database."""

import argparse
import getpass
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from remediator.archive import Archive, ArchiveError
from remediator.backup import take, take_sealed
from remediator.database import Database
from remediator.restore import Restore, RestoreError
from remediator.seal import (
    SealError,
    has_passphrase,
    identities,
    opened,
    recipients,
    seal_with_passphrase,
)
from remediator.settings import Settings
from remediator.store import Store
from remediator.views import iso


def add_commands(commands: Any) -> None:
    backup = commands.add_parser("backup", help="keep the state in an encrypted file; the service may run")
    backup.add_argument("file", type=Path, help="the file to write; - is stdout")
    how = backup.add_mutually_exclusive_group()
    how.add_argument(
        "--recipient", action="append", metavar="age1…", help="whose key opens it (may be repeated)"
    )
    how.add_argument(
        "--passphrase-file", type=Path, help="file with a passphrase; without either it is asked for"
    )
    restore = commands.add_parser(
        "restore",
        help="bring the state back, into an empty database; the service must be stopped",
        description="Into the database of BOT_REMEDIATOR_DATABASE_URL, which must be empty. "
        "The service compares the registry with EC2 at its next start, before it acts.",
    )
    restore.add_argument("file", type=Path, help="what backup wrote; - is stdin")
    restore.add_argument("--identity-file", type=Path, help="file with the key that opens it (age-keygen)")
    restore.add_argument(
        "--passphrase-file", type=Path, help="file with the passphrase; else it is asked for"
    )
    restore.add_argument(
        "--despite-trail", action="store_true", help="even if the audit trail in it was tampered with"
    )
    restore.add_argument("--json", action="store_true", help="say what was restored as JSON")


async def backup(settings: Settings, given: argparse.Namespace, release: str) -> int:
    """0, or 1 where it could not be kept."""
    try:
        to = recipients(given.recipient or [])
        word = None if to else _passphrase(given.passphrase_file, twice=True)
        store = await Store.open(settings.database_url, serving=False)
        try:
            out = io.BytesIO()
            if word is None:
                counts = await take_sealed(store, out, release, to)
                sealed = out.getvalue()
            else:
                counts = await take(store, out, release)
                sealed = seal_with_passphrase(out.getvalue(), word)
        finally:
            await store.close()
        _write(given.file, sealed)
    except (SealError, OSError) as error:
        return _failed(error)
    print(f"{sum(counts.values())} rows of {counts['bots']} bots, {len(sealed)} bytes", file=sys.stderr)
    return 0


async def restore(settings: Settings, given: argparse.Namespace) -> int:
    """0, or 1 where nothing was changed."""
    try:
        sealed = sys.stdin.buffer.read() if str(given.file) == "-" else given.file.read_bytes()
        archive = Archive.read(_opened(sealed, given))
        done = Restore(archive, time.time(), despite_trail=given.despite_trail)
        database = await Database.open(settings.database_url, prepare=done)
        await database.close()
    except (SealError, ArchiveError, RestoreError, OSError) as error:
        return _failed(error)
    if given.json:
        told = {"takenAt": iso(archive.header.taken_at), "rows": archive.counts, "trail": done.trail}
        print(json.dumps(told))
    else:
        rows, bots = sum(archive.counts.values()), archive.counts["bots"]
        print(f"{rows} rows of {bots} bots are back as of {iso(archive.header.taken_at)}.")
        print("".join(f"The audit trail: {fault}\n" for fault in done.trail), end="")
        print("Start the service: it compares them with EC2 before it does anything.")
    return 0


def _opened(sealed: bytes, given: argparse.Namespace) -> bytes:
    if given.identity_file is not None:
        return opened(sealed, identities=identities(given.identity_file))
    if has_passphrase(sealed):
        return opened(sealed, passphrase=_passphrase(given.passphrase_file))
    raise SealError("it was sealed for a key; name the file that holds it with --identity-file")


def _passphrase(path: Path | None, *, twice: bool = False) -> str:
    if path is not None:
        try:
            word = path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SealError(f"cannot read {path}: {error}") from None
    elif sys.stdin.isatty():
        word = getpass.getpass("Passphrase: ")
        if twice and getpass.getpass("Once more: ") != word:
            raise SealError("the two differ")
    else:
        raise SealError("no passphrase and nobody to ask; name a file with --passphrase-file")
    if not word:
        raise SealError("the passphrase is empty")
    return word


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, and for its owner alone."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        return
    part = path.with_name(path.name + ".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _failed(error: Exception) -> int:
    print(f"bot-remediator: {error}", file=sys.stderr)
    return 1
