"""`bot-remediator backup` and `restore`: the state into a file, and from one into an empty database."""

import argparse
import getpass
import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from remediator.backup.archive import Archive, ArchiveError
from remediator.backup.dump import take, take_sealed
from remediator.backup.encryption import (
    EncryptionError,
    decrypt,
    encrypt_with_passphrase,
    has_passphrase,
    identities,
    recipients,
)
from remediator.backup.restore import Restore, RestoreError
from remediator.settings import Settings
from remediator.store.database import Database
from remediator.store.store import Store
from remediator.timestamps import iso


def add_commands(commands: Any) -> None:
    """Add `backup` and `restore` to the subparsers of the command line."""
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


async def backup(settings: Settings, arguments: argparse.Namespace, release: str) -> int:
    """Write the backup. Return the exit code: 0, or 1 where it could not be written."""
    try:
        to = recipients(arguments.recipient or [])
        passphrase = None if to else _passphrase(arguments.passphrase_file, twice=True)
        store = await Store.open(settings.database_url, serving=False)
        try:
            out = io.BytesIO()
            if passphrase is None:
                counts = await take_sealed(store, out, release, to)
                encrypted = out.getvalue()
            else:
                counts = await take(store, out, release)
                encrypted = encrypt_with_passphrase(out.getvalue(), passphrase)
        finally:
            await store.close()
        _write(arguments.file, encrypted)
    except (EncryptionError, OSError) as error:
        return _failed(error)
    print(f"{sum(counts.values())} rows of {counts['bots']} bots, {len(encrypted)} bytes", file=sys.stderr)
    return 0


async def restore(settings: Settings, arguments: argparse.Namespace) -> int:
    """Restore the backup. Return the exit code: 0, or 1 where nothing was changed."""
    try:
        encrypted = sys.stdin.buffer.read() if str(arguments.file) == "-" else arguments.file.read_bytes()
        archive = Archive.read(_decrypted(encrypted, arguments))
        restoration = Restore(archive, time.time(), ignore_audit_faults=arguments.despite_trail)
        database = await Database.open(settings.database_url, prepare=restoration)
        await database.close()
    except (EncryptionError, ArchiveError, RestoreError, OSError) as error:
        return _failed(error)
    if arguments.json:
        summary = {
            "takenAt": iso(archive.header.taken_at),
            "rows": archive.counts,
            "trail": restoration.audit_faults,
        }
        print(json.dumps(summary))
    else:
        rows, bots = sum(archive.counts.values()), archive.counts["bots"]
        print(f"{rows} rows of {bots} bots are back as of {iso(archive.header.taken_at)}.")
        print("".join(f"The audit trail: {fault}\n" for fault in restoration.audit_faults), end="")
        print("Start the service: it compares them with EC2 before it does anything.")
    return 0


def _decrypted(encrypted: bytes, arguments: argparse.Namespace) -> bytes:
    if arguments.identity_file is not None:
        return decrypt(encrypted, identities=identities(arguments.identity_file))
    if has_passphrase(encrypted):
        return decrypt(encrypted, passphrase=_passphrase(arguments.passphrase_file))
    raise EncryptionError("it was sealed for a key; name the file that holds it with --identity-file")


def _passphrase(path: Path | None, *, twice: bool = False) -> str:
    if path is not None:
        try:
            passphrase = path.read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise EncryptionError(f"cannot read {path}: {error}") from None
    elif sys.stdin.isatty():
        passphrase = getpass.getpass("Passphrase: ")
        if twice and getpass.getpass("Once more: ") != passphrase:
            raise EncryptionError("the two differ")
    else:
        raise EncryptionError("no passphrase and nobody to ask; name a file with --passphrase-file")
    if not passphrase:
        raise EncryptionError("the passphrase is empty")
    return passphrase


def _write(path: Path, data: bytes) -> None:
    """Write the file as a whole or not at all, readable by its owner alone."""
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
