"""The session of a command: shared options, a client, the screen, a question before destroying."""

import getpass
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, RenderableType

from botctl.client import Answer, Client
from botctl.credentials import local_token
from botctl.errors import BotctlError, Exit, RefusedError

DEFAULT_URL: Final = "http://127.0.0.1:19000"
META: Final = "botctl."  # prefix of what is kept in click's context
PIPED_WIDTH: Final = 200  # columns where no terminal says how many


def _screen(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


@dataclass
class Session:
    """A client of the API and where to print; `json` prints the API's JSON."""

    client: Client
    json: bool = False
    out: Console = field(default_factory=_screen)
    err: Console = field(default_factory=lambda: _screen(stderr=True))

    def answer(self, answer: Answer, render: Callable[[Any], RenderableType]) -> None:
        """Print an answer on stdout: the API's own JSON with `--json`, else what a person reads."""
        if self.json:
            self.raw(answer)
        else:
            self.out.print(render(answer.json()))

    def raw(self, answer: Answer) -> None:
        """Print the API's own JSON."""
        click.echo(answer.body)

    def view(self, view: Any) -> None:
        """Print a view as JSON in one line."""
        click.echo(json.dumps(view, ensure_ascii=False, separators=(",", ":")))

    def say(self, text: str) -> None:
        """Print what is no result, to stderr, so that a pipe holds results alone."""
        click.echo(text, err=True)

    def confirm(self, question: str, yes: bool) -> None:
        """End botctl unless a person, or `--yes`, agrees."""
        if yes:
            return
        if not sys.stdin.isatty():
            raise BotctlError(f"{question} Nobody is there to answer", "add --yes", Exit.usage)
        if not click.confirm(question, err=True):
            raise BotctlError("left as it is", code=Exit.failed)


def session_of(context: click.Context) -> Session:
    """Make the session from the shared options and the environment."""
    meta = context.meta
    url = meta.get(META + "url") or os.environ.get("BOTCTL_URL") or DEFAULT_URL
    token = _token(meta.get(META + "token_file")) or local_token(url, os.environ)
    return Session(Client(url, token), json=bool(meta.get(META + "json")))


def _token(path: str | None) -> str:
    if path is None and os.environ.get("BOTCTL_TOKEN"):
        return os.environ["BOTCTL_TOKEN"].strip()
    named = path or os.environ.get("BOTCTL_TOKEN_FILE")
    return secret_in(named, "--token-file" if path else "BOTCTL_TOKEN_FILE") if named else ""


def secret_in(path: str, what: str) -> str:
    """Return the one word that a file holds, or stdin where `path` is `-`. `what` names its option."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BotctlError(
            f"{what}: cannot read {path}: {reason}", "name a file that holds it", Exit.usage
        ) from None
    lines = text.split()
    if len(lines) != 1 or not lines[0].isascii() or not lines[0].isprintable():
        raise BotctlError(f"{what}: {path} does not hold one word", "put nothing else into it", Exit.usage)
    return lines[0]


def me() -> str:
    """Return the name of this person for the audit trail."""
    try:
        return f"{getpass.getuser()} (botctl)"
    except (KeyError, OSError):
        return "botctl"


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False):
        context.meta[META + str(parameter.name)] = value


def common() -> list[click.Option]:
    """Return the options that may stand before a command's name and after it."""
    shared: dict[str, Any] = {"callback": _store, "expose_value": False, "is_eager": True}
    url = f"Where the service is.  [env: BOTCTL_URL; default: {DEFAULT_URL}]"
    file = (
        "File with the API's token.  [env: BOTCTL_TOKEN_FILE, or the token in BOTCTL_TOKEN; "
        "default: that of the service on this machine]"
    )
    return [
        click.Option(["--url"], metavar="URL", help=url, **shared),
        click.Option(["--token-file"], metavar="FILE", help=file, **shared),
        click.Option(["--json"], is_flag=True, help="Print the API's JSON, as it came.", **shared),
    ]


class Command(click.Command):
    """A command with the shared options and a session."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += common()

    def invoke(self, ctx: click.Context) -> Any:
        """Run it in a session; with `--json`, print a refusal's JSON before failing."""
        if ctx.obj is None:
            ctx.obj = session_of(ctx)
        try:
            return super().invoke(ctx)
        except RefusedError as refused:
            if ctx.obj.json:
                click.echo(refused.body)
            raise


class Group(click.Group):
    """A group with the shared options, whose commands are listed as they are written, not by the alphabet."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params += common()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which the commands were added."""
        return list(self.commands)


pass_session = click.make_pass_decorator(Session)
