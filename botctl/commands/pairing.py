"""Who wrote to a bot and waits to be admitted, and admitting them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from botctl import views
from botctl.client import segment
from botctl.options import bot_argument
from botctl.session import Command, Group, Session, me, pass_session

_PATIENCE: Final = 150.0  # seconds; the service itself waits for 120


@click.group(cls=Group)
def pairing() -> None:
    """Who may talk to a bot that does not know them."""


@pairing.command("list", cls=Command)
@bot_argument
@pass_session
def listed(session: Session, bot: str) -> None:
    """List who wrote to a bot and waits, each with the code that it gave them.

    The bot's instance is asked, which takes some seconds.
    """
    with _asking(session, bot):
        answer = session.client.call("GET", _path(bot), patience=_PATIENCE)
    session.answer(answer, views.pairing)


@pairing.command(cls=Command)
@bot_argument
@click.argument("code")
@pass_session
def approve(session: Session, bot: str, code: str) -> None:
    """Admit whom a bot gave this code.

    Until its instance is replaced; the answer says how to make it last.
    """
    with _asking(session, bot):
        answer = session.client.post(_path(bot), {"code": code, "by": me()}, patience=_PATIENCE)
    session.answer(answer, views.paired)


def _path(bot: str) -> str:
    return f"/bots/{segment(bot)}/pairing"


@contextmanager
def _asking(session: Session, bot: str) -> Iterator[None]:
    """Show, at a terminal, that it goes on."""
    if not session.err.is_terminal:
        yield
        return
    with session.err.status(views.asking(bot)):
        yield


COMMANDS: Final = (pairing,)
