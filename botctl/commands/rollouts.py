"""Blue/green: one bot anew, or many, a few at a time."""

from typing import Final

import click

from botctl import views
from botctl.client import segment
from botctl.options import (
    ENVIRONMENTS,
    bot_argument,
    bots_for,
    needed_reason,
    reason_option,
    timeout_option,
    waiting,
    without_empty,
    yes_option,
)
from botctl.progress import watch
from botctl.runs import begin, path_of
from botctl.session import Command, Group, Session, me, pass_session


@click.command(cls=Command)
@bot_argument
@click.option("--version", type=int, help="A version of its configuration.  [default: the newest]")
@needed_reason
@yes_option
@waiting
@pass_session
def redeploy(
    session: Session, bot: str, version: int | None, reason: str, yes: bool, wait: bool, timeout: float
) -> None:
    """Give a bot a new instance, blue/green.

    The old one stays until the new one is healthy.
    """
    session.confirm(f"Redeploy {bot}?", yes)
    body = {"reason": reason, "by": me(), **without_empty(version=version)}
    begin(session, f"/bots/{segment(bot)}/redeploy", body, wait=wait, timeout=timeout)


@click.group(cls=Group)
def rollout() -> None:
    """Redeploy many bots, a few at a time.

    It stops by itself when the fleet's health falls.
    """


@rollout.command()
@click.argument("bots", metavar="[BOT]...", nargs=-1, shell_complete=bots_for)
@click.option("--template", metavar="TYPE", help="Bots of this template.")
@click.option("--environment", "-e", type=click.Choice(ENVIRONMENTS), help="Bots of this environment.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Bots at once.")
@click.option(
    "--max-unavailable",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="It pauses at more ill bots.",
)
@needed_reason
@yes_option
@waiting
@pass_session
def start(
    session: Session,
    bots: tuple[str, ...],
    template: str | None,
    environment: str | None,
    batch_size: int,
    max_unavailable: int,
    reason: str,
    yes: bool,
    wait: bool,
    timeout: float,
) -> None:
    """Begin one.

    Of the bots named, or of a template, an environment, or both.
    """
    if not (bots or template or environment):
        raise click.UsageError("say which: bots by name, --template or --environment")
    selection = without_empty(bots=list(bots), template=template, environment=environment)
    session.confirm(
        f"Redeploy {', '.join(bots) or ' '.join(map(str, selection.values()))}, {batch_size} at a time?", yes
    )
    body = {
        **selection,
        "batchSize": batch_size,
        "maxUnavailable": max_unavailable,
        "reason": reason,
        "by": me(),
    }
    begin(session, "/rollouts", body, wait=wait, timeout=timeout)


@rollout.command("list")
@pass_session
def list_(session: Session) -> None:
    """All of them, newest first."""
    session.answer(session.client.get("/rollouts"), views.rollouts)


@rollout.command()
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--follow", is_flag=True, help="To its end.")
@timeout_option
@pass_session
def show(session: Session, rollout_id: str, follow: bool, timeout: float) -> None:
    """One of them: its bots, and how far each is."""
    if follow:
        watch(session, path_of(rollout_id), timeout)
    else:
        session.answer(session.client.get(f"/rollouts/{segment(rollout_id)}"), views.rollout)


def _decision(name: str, text: str) -> None:
    """Add a command that sends a decision about a rollout."""

    @rollout.command(name, help=text)
    @click.argument("rollout_id", metavar="ROLLOUT")
    @reason_option
    @pass_session
    def decide(session: Session, rollout_id: str, reason: str) -> None:
        body = {"by": me(), **without_empty(reason=reason)}
        session.answer(session.client.post(f"/rollouts/{segment(rollout_id)}/{name}", body), views.facts)


_decision("pause", "Begin no further bot until it is resumed.")
_decision("resume", "Go on.")
_decision("cancel", "End it: what is under way is finished, nothing more is begun.")

COMMANDS: Final = (redeploy, rollout)
