"""A person's decisions: approve, deny, cancel, pause, resume."""

from datetime import UTC, datetime, timedelta
from typing import Final

import click

from botctl import views
from botctl.client import Answer, segment
from botctl.errors import BotctlError, Exit
from botctl.options import (
    ENVIRONMENTS,
    Duration,
    bots_for,
    needed_reason,
    reason_option,
    run_argument,
    without_empty,
)
from botctl.runs import running
from botctl.session import Command, Session, me, pass_session


def _decide(session: Session, run: str, decision: str, reason: str) -> None:
    """Send a decision about a recovery."""
    run_id = running(session, run)
    answer = session.client.post(f"/recover/{segment(run_id)}/{decision}", {"by": me(), "reason": reason})
    session.answer(answer, views.facts)


@click.command(cls=Command)
@run_argument
@reason_option
@pass_session
def approve(session: Session, run: str, reason: str) -> None:
    """Say yes to the tier that waits for it."""
    _decide(session, run, "approve", reason)


@click.command(cls=Command)
@run_argument
@reason_option
@pass_session
def deny(session: Session, run: str, reason: str) -> None:
    """Say no: the bot is left to people."""
    _decide(session, run, "deny", reason)


@click.command(cls=Command)
@run_argument
@reason_option
@pass_session
def cancel(session: Session, run: str, reason: str) -> None:
    """End a recovery at its next step.

    What is being done is finished, nothing more is begun.
    """
    _decide(session, run, "cancel", reason)


@click.command(cls=Command)
@click.option("--bot", metavar="BOT", shell_complete=bots_for, help="Only this bot.")
@click.option("--template", metavar="TYPE", help="Only bots of this template.")
@click.option("--environment", "-e", type=click.Choice(ENVIRONMENTS), help="Only bots of this environment.")
@click.option("--fleet", is_flag=True, help="All of them.")
@click.option(
    "--for", "lasting", type=Duration(), default=None, help="Maintenance: it ends by itself, such as 2h."
)
@needed_reason
@pass_session
def pause(
    session: Session,
    bot: str | None,
    template: str | None,
    environment: str | None,
    fleet: bool,
    lasting: float | None,
    reason: str,
) -> None:
    """Keep automatic recovery off.

    Until botctl resume, or --for a while.
    """
    scope, name = _scope(bot, template, environment, fleet)
    ends = (datetime.now(UTC) + timedelta(seconds=lasting)).isoformat() if lasting else None
    body = {"scope": scope, "reason": reason, "by": me(), **without_empty(name=name, endsAt=ends)}
    session.answer(session.client.post("/holds", body), views.facts)


def _scope(bot: str | None, template: str | None, environment: str | None, fleet: bool) -> tuple[str, str]:
    scopes = {"bot": bot, "template": template, "environment": environment, "fleet": "" if fleet else None}
    chosen = [(scope, name) for scope, name in scopes.items() if name is not None]
    if len(chosen) != 1:
        raise click.UsageError("say what: one of --bot, --template, --environment and --fleet")
    return chosen[0]


@click.command(cls=Command)
@click.argument("ids", metavar="[ID]...", nargs=-1, type=int)
@click.option("--bot", metavar="BOT", shell_complete=bots_for, help="What pauses this bot alone.")
@click.option("--template", metavar="TYPE", help="What pauses this template.")
@click.option("--environment", "-e", type=click.Choice(ENVIRONMENTS), help="What pauses this environment.")
@click.option("--fleet", is_flag=True, help="What pauses all of them.")
@pass_session
def resume(
    session: Session,
    ids: tuple[int, ...],
    bot: str | None,
    template: str | None,
    environment: str | None,
    fleet: bool,
) -> None:
    """Let automatic recovery go on.

    Ends a pause, by its number (botctl holds) or by what it covers.
    """
    if not ids:
        scope = _scope(bot, template, environment, fleet)
        active = session.client.get("/holds").json()
        ids = tuple(hold["id"] for hold in active if (hold["scope"], hold["name"]) == scope)
        if not ids:
            raise BotctlError("nothing pauses that", "botctl holds lists what is paused", Exit.unknown)
    for number in ids:
        answer: Answer = session.client.call("DELETE", f"/holds/{number}")
        session.answer(answer, views.facts)


@click.command(cls=Command)
@pass_session
def holds(session: Session) -> None:
    """What is paused, by whom and why."""
    session.answer(session.client.get("/holds"), views.holds)


COMMANDS: Final = (approve, deny, cancel, pause, resume, holds)
