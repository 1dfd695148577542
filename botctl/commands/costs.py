"""Costs, recommendations and budgets."""

from typing import Final

import click

from botctl import cost_views
from botctl.client import segment
from botctl.options import reason_option, without_empty, yes_option
from botctl.session import Command, Group, Session, me, pass_session


@click.command(cls=Command)
@pass_session
def cost(session: Session) -> None:
    """What the fleet costs, by bot."""
    session.answer(session.client.get("/cost"), cost_views.cost)


@click.command(cls=Command)
@pass_session
def recommendations(session: Session) -> None:
    """What to change, and what it saves.

    With the evidence, the risk, and the command that does it.
    """
    session.answer(session.client.get("/recommendations"), cost_views.recommendations)


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def budgets(ctx: click.Context) -> None:
    """Monthly budgets, and whether they will hold."""
    if ctx.invoked_subcommand is None:
        listed_budgets.invoke(ctx)


@budgets.command("list")
@pass_session
def listed_budgets(session: Session) -> None:
    """List them (what budgets does by itself)."""
    session.answer(session.client.get("/budgets"), cost_views.budgets)


_SCOPE = click.argument("scope", type=click.Choice(("fleet", "template", "environment")))
_NAME = click.argument("name", required=False, default="all")


@budgets.command("set")
@_SCOPE
@_NAME
@click.option("--usd", type=float, required=True, help="US dollars a month.")
@click.option("--refuse/--allow", default=False, help="Refuse deploys above it, or only tell.")
@reason_option
@pass_session
def set_budget(session: Session, scope: str, name: str, usd: float, refuse: bool, reason: str) -> None:
    """Say what may be spent in a month."""
    body = {"usd": usd, "refuse": refuse, "by": me(), **without_empty(reason=reason)}
    session.answer(session.client.call("PUT", _budget(scope, name), body), cost_views.budget)


@budgets.command("remove")
@_SCOPE
@_NAME
@yes_option
@pass_session
def remove_budget(session: Session, scope: str, name: str, yes: bool) -> None:
    """Spend without a limit again."""
    session.confirm(f"Remove the budget of {scope} {name}?", yes)
    session.answer(session.client.call("DELETE", _budget(scope, name)), cost_views.budget)


def _budget(scope: str, name: str) -> str:
    return f"/budgets/{segment(scope)}/{segment(name)}"


COMMANDS: Final = (cost, recommendations, budgets)
