"""Configurations: versions, what differs, going back, and what is not as it is stored."""

from typing import Any, Final

import click

from botctl import views
from botctl.client import segment
from botctl.errors import Exit
from botctl.options import (
    bot_argument,
    needed_reason,
    reason_option,
    set_option,
    settings,
    waiting,
    without_empty,
    yes_option,
)
from botctl.progress import watch
from botctl.runs import begin, path_of
from botctl.session import Command, Session, me, pass_session


@click.command(cls=Command)
@bot_argument
@click.argument("version", type=int, required=False)
@pass_session
def versions(session: Session, bot: str, version: int | None) -> None:
    """Every configuration that a bot had.

    When, by whom and why; or one of them in full.
    """
    path = f"/bots/{segment(bot)}/versions"
    if version is None:
        session.answer(session.client.get(path), views.versions)
    else:
        session.answer(session.client.get(f"{path}/{version}"), views.version)


@click.command(cls=Command)
@bot_argument
@click.argument("older", metavar="[FROM]", type=int, required=False)
@click.argument("newer", metavar="[TO]", type=int, required=False)
@pass_session
def diff(session: Session, bot: str, older: int | None, newer: int | None) -> None:
    """What differs between two versions.

    Without them: between the newest and the one before it.
    """
    query = {"from": older, "to": newer}
    session.answer(session.client.get(f"/bots/{segment(bot)}/diff", **query), views.diff)


@click.command(cls=Command)
@bot_argument
@click.option("--to", "version", type=int, help="Which version.  [default: the one before]")
@needed_reason
@yes_option
@waiting
@pass_session
def rollback(
    session: Session, bot: str, version: int | None, reason: str, yes: bool, wait: bool, timeout: float
) -> None:
    """Go back to an earlier configuration.

    By a blue/green redeploy: what runs stays until the other is healthy.
    """
    session.confirm(f"Roll {bot} back to {f'version {version}' if version else 'the version before'}?", yes)
    body = {"reason": reason, "by": me(), **without_empty(version=version)}
    begin(session, f"/bots/{segment(bot)}/rollback", body, wait=wait, timeout=timeout)


@click.command(cls=Command)
@bot_argument
@set_option
@click.option("--apply", is_flag=True, help="Redeploy the bot with it, blue/green.")
@reason_option
@yes_option
@waiting
@pass_session
def config(
    session: Session,
    bot: str,
    pairs: tuple[str, ...],
    apply: bool,
    reason: str,
    yes: bool,
    wait: bool,
    timeout: float,
) -> None:
    """Let one bot differ from its template.

    Makes a new version of its configuration. A field set to null is as in the template again.
    """
    changes = {"overrides": settings(pairs), "reason": reason or f"set {', '.join(pairs)}"}
    body: dict[str, Any] = {**changes, "by": me(), "apply": apply}
    path = f"/bots/{segment(bot)}/config"
    if apply:
        session.confirm(f"Redeploy {bot} with it?", yes)
        begin(session, path, body, wait=wait, timeout=timeout)
    else:
        session.answer(session.client.post(path, body), views.facts)


@click.command(cls=Command)
@click.option("--check", is_flag=True, help="Exit with 1 where something has drifted.")
@pass_session
def drift(session: Session, check: bool) -> None:
    """What is not as it was declared."""
    answer = session.client.get("/drift")
    session.answer(answer, views.drift)
    if check and views.drifted(answer.json()):
        raise click.exceptions.Exit(Exit.failed)


@click.command(cls=Command)
@bot_argument
@click.option("--apply", is_flag=True, help="Do it. Without it, only say what would be done.")
@yes_option
@waiting
@pass_session
def reconcile(session: Session, bot: str, apply: bool, yes: bool, wait: bool, timeout: float) -> None:
    """Make a bot what was declared.

    What it takes is said first: some of it is done in place, some takes a redeploy.
    """
    if apply:
        session.confirm(f"Change {bot} in EC2 until it is as declared?", yes)
    answer = session.client.post(f"/bots/{segment(bot)}/reconcile", {"apply": apply, "by": me()})
    run_id = answer.json().get("deploymentId")
    if not session.json or not wait or run_id is None:
        session.answer(answer, views.plan)
    if wait and run_id is not None:
        watch(session, path_of(run_id), timeout)


COMMANDS: Final = (versions, diff, rollback, config, drift, reconcile)
