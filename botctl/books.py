"""What is written down: the audit trail, instances without a bot, costs and advice."""

from typing import Final

import click

from botctl import views
from botctl.client import segment
from botctl.options import bots_for, given, yes_option
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
@click.argument("instances", metavar="INSTANCE_ID...", nargs=-1, required=True)
@click.option("--apply", is_flag=True, help="Do it. Without it, only say what would be done.")
@yes_option
@pass_session
def reap(session: Session, instances: tuple[str, ...], apply: bool, yes: bool) -> None:
    """Terminate these instances."""
    if apply:
        session.confirm(f"Terminate {', '.join(instances)}?", yes)
    body = {"instanceIds": list(instances), "apply": apply}
    session.answer(session.client.post("/orphans/reap", body), views.facts)


@click.command(cls=Command)
@pass_session
def cost(session: Session) -> None:
    """What the fleet costs, by bot."""
    session.answer(session.client.get("/cost"), views.facts)


@click.command(cls=Command)
@pass_session
def recommendations(session: Session) -> None:
    """What to change, and what it saves.

    With the evidence, the risk, and the command that does it.
    """
    session.answer(session.client.get("/recommendations"), views.facts)


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
    session.answer(session.client.get("/budgets"), views.facts)


@budgets.command("set")
@click.argument("scope", type=click.Choice(("fleet", "template", "environment")))
@click.argument("name", required=False, default="all")
@click.option("--usd", type=float, required=True, help="US dollars a month.")
@click.option("--refuse/--allow", default=False, help="Refuse deploys above it.")
@pass_session
def set_budget(session: Session, scope: str, name: str, usd: float, refuse: bool) -> None:
    """Set one."""
    body = {"usd": usd, "refuse": refuse, **given(by=me())}
    path = f"/budgets/{segment(scope)}/{segment(name)}"
    session.answer(session.client.call("PUT", path, body), views.facts)


COMMANDS: Final = (audit, orphans, cost, recommendations, budgets)
