"""What is written down: the audit trail, instances without a bot, costs and advice."""

from typing import Any, Final

import click

from botctl import money, views
from botctl.client import segment
from botctl.options import bots_for, given, reason_option, yes_option
from botctl.session import Command, Group, Session, me, pass_session


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


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def orphans(ctx: click.Context) -> None:
    """Instances that belong to no bot."""
    if ctx.invoked_subcommand is None:
        listed.invoke(ctx)


@orphans.command("list")
@pass_session
def listed(session: Session) -> None:
    """List them (what orphans does by itself)."""
    session.answer(session.client.get("/orphans"), views.orphans)


@orphans.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--apply", is_flag=True, help="Do it. Without it, only say what would be done.")
@yes_option
@pass_session
def reap(session: Session, ids: tuple[str, ...], apply: bool, yes: bool) -> None:
    """End these instances, volumes and addresses."""
    kinds = {"i-": "instanceIds", "vol-": "volumeIds", "eipalloc-": "allocationIds"}
    body: dict[str, Any] = {"apply": apply, "by": me()}
    for one in ids:
        kind = next((name for prefix, name in kinds.items() if one.startswith(prefix)), None)
        if kind is None:
            raise click.BadParameter(f"{one!r} is none of i-…, vol-… and eipalloc-…", param_hint="ID")
        body.setdefault(kind, []).append(one)
    if apply:
        session.confirm(f"End {', '.join(ids)} for good?", yes)
    session.answer(session.client.post("/orphans/reap", body), views.reaped)


@click.command(cls=Command)
@pass_session
def cost(session: Session) -> None:
    """What the fleet costs, by bot."""
    session.answer(session.client.get("/cost"), money.cost)


@click.command(cls=Command)
@pass_session
def recommendations(session: Session) -> None:
    """What to change, and what it saves.

    With the evidence, the risk, and the command that does it.
    """
    session.answer(session.client.get("/recommendations"), money.recommendations)


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
    session.answer(session.client.get("/budgets"), money.budgets)


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
    body = {"usd": usd, "refuse": refuse, "by": me(), **given(reason=reason)}
    session.answer(session.client.call("PUT", _budget(scope, name), body), money.budget)


@budgets.command("remove")
@_SCOPE
@_NAME
@yes_option
@pass_session
def remove_budget(session: Session, scope: str, name: str, yes: bool) -> None:
    """Spend without a limit again."""
    session.confirm(f"Remove the budget of {scope} {name}?", yes)
    session.answer(session.client.call("DELETE", _budget(scope, name)), money.budget)


def _budget(scope: str, name: str) -> str:
    return f"/budgets/{segment(scope)}/{segment(name)}"


COMMANDS: Final = (audit, orphans, cost, recommendations, budgets)
