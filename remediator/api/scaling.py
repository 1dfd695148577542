"""The calls about groups of bots that scale."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import DecisionRequest
from remediator.model import Bot
from remediator.modes import Rule, mode_for_scaling
from remediator.scaling.approval import approve
from remediator.store.transaction import Transaction
from remediator.timestamps import iso, maybe_iso
from templates import ENVIRONMENTS, ScalingTemplate


async def scaling(request: Request) -> Response:
    """Return the groups that scale: a template in an environment, its limits, and what it was up to last."""
    runtime, views = runtime_of(request), []
    async with runtime.store.read() as tx:
        bots = await tx.bots()
        for template in runtime.templates.names:
            for environment in ENVIRONMENTS:
                limits = runtime.templates.get(template, environment).scaling
                if limits is not None:
                    group = template, environment, limits
                    views.append(await _group_view(tx, *group, bots, runtime.settings.modes))
    return JSONResponse(views)


async def _group_view(
    tx: Transaction,
    template: str,
    environment: str,
    limits: ScalingTemplate,
    bots: Sequence[Bot],
    modes: Sequence[Rule],
) -> dict[str, Any]:
    state = await tx.scaling(template, environment)
    past, proposed = state.get("past", {}), state.get("proposed")
    return {
        "template": template,
        "environment": environment,
        **limits.model_dump(),
        "mode": mode_for_scaling(modes, environment),
        "bots": sum((bot.template, bot.environment) == (template, environment) for bot in bots),
        "shortSince": maybe_iso(past.get("short_since")),
        "calmSince": maybe_iso(past.get("calm_since")),
        "lastMove": past.get("moved") or None,
        "lastMoveAt": maybe_iso(past.get("moved_at")),
        "proposed": proposed and {**proposed, "at": iso(proposed["at"])},
        "notDone": state.get("said") or None,
    }


async def approve_scaling(request: Request) -> Response:
    """Say yes to the move that a group has proposed; it is made at the next pass, if it is still due."""
    template, environment = request.path_params["template"], request.path_params["environment"]
    body = await read_body(request, DecisionRequest)
    actor = actor_of(request, body.by)
    async with runtime_of(request).store.write() as tx:
        direction = await approve(tx, template, environment, actor, body.reason)
    return JSONResponse(
        {"template": template, "environment": environment, "direction": direction, "by": actor}
    )


OPERATIONS: Final = (
    Operation("GET", "/scaling", scaling, {200: ("The groups.", list[dict[str, Any]])}),
    Operation(
        "POST",
        "/scaling/{template}/{environment}/approve",
        approve_scaling,
        {
            200: ("It is made at the next pass.", ANY),
            404: ("No such group.", ANY),
            409: ("It proposes nothing.", ANY),
        },
        body=DecisionRequest,
    ),
)
