"""The calls about holds: pauses of automatic recovery, and maintenance windows."""

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api import views
from remediator.api.body import read_body
from remediator.api.lookup import actor_of, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import HoldRequest
from remediator.errors import Refused
from remediator.store.transaction import Transaction
from templates import ENVIRONMENTS, Templates

_ID: Final = re.compile("[0-9]{1,9}")


async def list_holds(request: Request) -> Response:
    """Return pauses and maintenance windows that are not over."""
    async with runtime_of(request).store.read() as tx:
        return JSONResponse([views.hold(hold) for hold in await tx.holds()])


async def add_hold(request: Request) -> Response:
    """Pause automatic recovery, or announce maintenance (with `endsAt`)."""
    runtime, body = runtime_of(request), await read_body(request, HoldRequest)
    actor = actor_of(request, body.by)
    async with runtime.store.write() as tx:
        starts_at = body.starts_at.timestamp() if body.starts_at else tx.now
        ends_at = body.ends_at.timestamp() if body.ends_at else None
        if ends_at is not None and ends_at <= max(starts_at, tx.now):
            remedy = "give a time after startsAt and now"
            raise Refused("invalid", "is over before it begins", field="endsAt", remedy=remedy)
        await _require_known(tx, body, runtime.templates)
        values = {"scope": body.scope, "name": body.name, "reason": body.reason}
        hold_id = await tx.add_hold(**values, actor=actor, starts_at=starts_at, ends_at=ends_at)
        bot = body.name if body.scope == "bot" else ""
        await tx.audit("hold.added", bot=bot, actor=actor, hold=hold_id, **values)
    return JSONResponse({"id": hold_id, **values, "by": actor}, 201)


async def _require_known(tx: Transaction, body: HoldRequest, templates: Templates) -> None:
    """Raise Refused (invalid) where there is nothing of that scope and name."""
    names: dict[str, list[str]] = {
        "fleet": [""],
        "template": templates.names,
        "environment": list(ENVIRONMENTS),
        "bot": [bot.name for bot in await tx.bots()],
    }
    if body.name not in names[body.scope]:
        remedy = (
            "leave it out" if body.scope == "fleet" else f"use one of {', '.join(names[body.scope][:20])}"
        )
        raise Refused("invalid", f"{body.name!r} is no {body.scope} here", field="name", remedy=remedy)


async def lift_hold(request: Request) -> Response:
    """Resume: end a pause or a maintenance window."""
    runtime, text = runtime_of(request), request.path_params["id"]
    hold_id = int(text) if _ID.fullmatch(text) else 0  # which none has
    async with runtime.store.write() as tx:
        if not await tx.remove_hold(hold_id):
            raise not_found("id", text, "GET /holds lists them")
        await tx.audit("hold.lifted", actor=actor_of(request), hold=hold_id)
        blocked = await tx.blocked(1000)
    for run in blocked:
        runtime.engine.wake(run.id)
    return JSONResponse({"id": hold_id, "status": "lifted"})


OPERATIONS: Final = (
    Operation("GET", "/holds", list_holds, {200: ("Pauses and windows.", list[dict[str, Any]])}),
    Operation("POST", "/holds", add_hold, {201: ("It holds.", ANY)}, body=HoldRequest),
    Operation(
        "DELETE",
        "/holds/{id}",
        lift_hold,
        {200: ("Recovery goes on.", ANY), 404: ("Unknown hold.", ANY)},
    ),
)
