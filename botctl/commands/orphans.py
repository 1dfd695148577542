"""Instances, volumes and addresses that belong to no bot."""

from typing import Any, Final

import click

from botctl import views
from botctl.options import yes_option
from botctl.session import Group, Session, me, pass_session


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
    for resource_id in ids:
        kind = next((name for prefix, name in kinds.items() if resource_id.startswith(prefix)), None)
        if kind is None:
            raise click.BadParameter(f"{resource_id!r} is none of i-…, vol-… and eipalloc-…", param_hint="ID")
        body.setdefault(kind, []).append(resource_id)
    if apply:
        session.confirm(f"End {', '.join(ids)} for good?", yes)
    session.answer(session.client.post("/orphans/reap", body), views.reaped)


COMMANDS: Final = (orphans,)
