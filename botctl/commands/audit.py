"""The audit trail."""

from typing import Final

import click

from botctl import views
from botctl.options import bots_for
from botctl.session import Command, Session, pass_session


@click.command(cls=Command)
@click.option("--bot", metavar="BOT", shell_complete=bots_for, help="Only this bot's.")
@click.option("--after", type=int, metavar="ID", help="Those that follow this entry, oldest first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="So many.")
@pass_session
def audit(session: Session, bot: str | None, after: int | None, limit: int) -> None:
    """What was asked, decided and done.

    The newest entries, oldest first.
    """
    session.answer(session.client.get("/audit", bot=bot, after=after, limit=limit), views.audit)


COMMANDS: Final = (audit,)
