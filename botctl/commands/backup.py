"""Backups of the orchestrator's own state, in encrypted files."""

import base64
import hashlib
import os
import subprocess
import sys
from http.client import HTTPResponse
from pathlib import Path
from typing import Final

import click

from botctl.errors import BotctlError, Exit
from botctl.session import Command, Session, me, pass_session

CHUNK: Final = 64 * 1024
TIMEOUT: Final = 600.0  # seconds until a backup begins to arrive: it is read and encrypted first


@click.command(cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="age1…",
    help="Whose key opens it, as age-keygen prints it. May be repeated.",
)
@click.option(
    "--passphrase-file", metavar="FILE", help="File with a passphrase.  [default: it is asked for, twice]"
)
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@pass_session
def backup(
    session: Session, file: Path, recipients: tuple[str, ...], passphrase_file: str | None, force: bool
) -> None:
    """Keep the state in an encrypted file.

    While the service runs, and as of one moment. FILE is an age file: for the keys of --recipient, or for a
    passphrase. The service never learns the passphrase.
    """
    if recipients and passphrase_file:
        raise click.UsageError("--recipient and --passphrase-file are two ways; choose one")
    if file.exists() and not force:
        raise BotctlError(f"{file} is there already", "name another, or add --force", Exit.usage)
    if recipients:
        size = _write(file, _fetch(session, list(recipients)))
    else:
        size = _write(file, _fetch_with_passphrase(session, _read_passphrase(passphrase_file)))
    if session.json:
        session.view({"file": str(file), "bytes": size})
    else:
        click.echo(f"{file}: {size:,} bytes")


def _fetch_with_passphrase(session: Session, passphrase: str) -> list[bytes]:
    """Fetch it encrypted for a key made for this alone and forgotten, and encrypt it for the passphrase.

    In memory: FILE may be a good backup until the new one is whole.
    """
    import pyrage  # loaded where it is used: every other command is quicker without

    key = pyrage.x25519.Identity.generate()
    content = b"".join(_fetch(session, [str(key.to_public())]))
    return [pyrage.passphrase.encrypt(pyrage.decrypt(content, [key]), passphrase)]


def _fetch(session: Session, recipients: list[str]) -> list[bytes]:
    body = {"recipients": recipients, "by": me()}
    accept = "application/octet-stream, application/json"
    with session.client.open("POST", "/backup", body, accept=accept, patience=TIMEOUT) as response:
        return _read_checked(response)


def _read_checked(response: HTTPResponse) -> list[bytes]:
    digest, chunks = hashlib.sha256(), []
    while chunk := response.read(CHUNK):
        digest.update(chunk)
        chunks.append(chunk)
    expected = response.headers.get("Repr-Digest", "")
    if expected != f"sha-256=:{base64.b64encode(digest.digest()).decode()}:":
        raise BotctlError("the backup did not arrive whole", "ask again; nothing was kept")
    return chunks


def _write(file: Path, chunks: list[bytes]) -> int:
    """Write the file whole or not at all, for its owner alone; return its size in bytes."""
    part = file.with_name(file.name + ".part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.writelines(chunks)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BotctlError(f"{file} cannot be written: {error.strerror}", "name another place") from None
    return sum(map(len, chunks))


def _read_passphrase(path: str | None) -> str:
    if path is not None:
        try:
            passphrase = Path(path).read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise BotctlError(f"--passphrase-file: cannot read {path}", "name a file", Exit.usage) from None
    elif sys.stdin.isatty():
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    else:
        remedy = "name --recipient or --passphrase-file"
        raise BotctlError("a backup is sealed for somebody, and nobody is there to ask", remedy, Exit.usage)
    if not passphrase:
        raise BotctlError("the passphrase is empty", "an empty one seals nothing", Exit.usage)
    return passphrase


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--database-url",
    metavar="URL",
    help="The empty database.  [env: BOT_REMEDIATOR_DATABASE_URL, as the service has it]",
)
@click.option("--identity-file", metavar="FILE", help="File with the key that opens it.")
@click.option("--passphrase-file", metavar="FILE", help="File with the passphrase.  [default: asked for]")
@click.option("--despite-trail", is_flag=True, help="Even if the audit trail in it was tampered with.")
@pass_session
def restore(
    session: Session,
    file: Path,
    database_url: str | None,
    identity_file: str | None,
    passphrase_file: str | None,
    despite_trail: bool,
) -> None:
    """Bring the state back into an empty database.

    On the machine of the service, which must be stopped: this runs `bot-remediator restore`, with the
    service's own settings from the environment. At its next start the service compares the registry with EC2
    before it does anything.
    """
    options = {"--identity-file": identity_file, "--passphrase-file": passphrase_file}
    files = [word for option, value in options.items() if value for word in (option, value)]
    flags = ["--despite-trail"] * despite_trail + ["--json"] * session.json
    command = [sys.executable, "-m", "remediator", "restore", str(file), *files, *flags]
    environment = {**os.environ, **({"BOT_REMEDIATOR_DATABASE_URL": database_url} if database_url else {})}
    process = subprocess.run(command, env=environment, check=False)  # noqa: S603 -- its words are a list
    if process.returncode:
        raise click.exceptions.Exit(process.returncode if process.returncode > 0 else Exit.failed)


COMMANDS: Final = (backup, restore)
