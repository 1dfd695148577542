"""The calls about recoveries: begin one, see it, end it, and answer where it asks."""

from typing import Final, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api import views
from remediator.api.body import read_body, read_number
from remediator.api.lookup import actor_of, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import DecisionRequest, RecoverRequest
from remediator.errors import Refused
from remediator.model import Run
from remediator.provisioning.idle import free_bot
from remediator.recovery.begin import begin, decide
from remediator.store.store import Store
from remediator.store.transaction import Transaction

LONGEST_WAIT: Final = 600  # seconds


async def recover(request: Request) -> Response:
    """Recover a bot, beginning with the tier asked for. `?wait=SECONDS` answers when it has ended."""
    runtime, name = runtime_of(request), request.path_params["id"]
    seconds = read_number(request, "wait", 0, LONGEST_WAIT)
    method = (await read_body(request, RecoverRequest)).method
    actor = actor_of(request)
    async with runtime.store.write() as tx:
        bot = await free_bot(tx, name, actor, "botId")
        run = await begin(tx, bot.name, method, actor)
    runtime.engine.drive(run)
    if seconds:
        await runtime.engine.wait(run.id, seconds)
    view = await _recovery_view(runtime.store, run.id)
    ended = view["finishedAt"] is not None
    return JSONResponse(view, 200 if ended else 202, headers={"Location": run.path})


async def show_recovery(request: Request) -> Response:
    """Return a recovery: its attempts, and every gate's verdict."""
    return JSONResponse(await _recovery_view(runtime_of(request).store, request.path_params["id"]))


async def _recovery_view(store: Store, run_id: str) -> views.RecoveryView:
    async with store.read() as tx:
        run = await _recovery(tx, run_id)
        return views.recovery(
            run, await tx.steps(run_id), await tx.verdicts(run_id), await tx.alerts_of(run_id)
        )


async def cancel(request: Request) -> Response:
    """End a recovery at its next step: what is being done is finished, nothing more is begun."""
    runtime, body = runtime_of(request), await read_body(request, DecisionRequest)
    actor = actor_of(request, body.by)
    async with runtime.store.write() as tx:
        run = await _active_recovery(tx, request.path_params["id"])
        reason = f"cancelled by {actor}" + (f": {body.reason}" if body.reason else "")
        await tx.change_run(run.id, cancel=reason)
        await tx.audit("cancel.asked", bot=run.bot, run_id=run.id, actor=actor, reason=body.reason)
    runtime.engine.wake(run.id)
    return JSONResponse({"recoveryId": run.id, "status": "cancelling"}, 202)


async def approve(request: Request) -> Response:
    """Say yes to the tier that waits for it."""
    return await _decide(request, "yes")


async def deny(request: Request) -> Response:
    """Say no: the bot is left to people."""
    return await _decide(request, "no")


async def _decide(request: Request, decision: Literal["yes", "no"]) -> Response:
    runtime, body = runtime_of(request), await read_body(request, DecisionRequest)
    actor, run_id = actor_of(request, body.by), request.path_params["id"]
    async with runtime.store.write() as tx:
        await _active_recovery(tx, run_id)
        approval = await decide(tx, run_id, decision, actor)
        if approval is None:
            raise Refused(
                "conflict",
                f"{run_id} does not wait for an answer",
                field="recoveryId",
                remedy=f"GET /recover/{run_id} shows what it is at",
            )
    runtime.engine.wake(run_id)
    return JSONResponse({"recoveryId": run_id, "tier": approval.tier, "decision": decision, "by": actor})


async def _active_recovery(tx: Transaction, run_id: str) -> Run:
    run = await _recovery(tx, run_id)
    if run.finished_at is not None:
        raise Refused("conflict", f"{run_id} has ended ({run.status})", field="recoveryId")
    return run


async def _recovery(tx: Transaction, run_id: str) -> Run:
    run = await tx.run(run_id)
    if run is None or run.kind != "recover":
        raise not_found("recoveryId", run_id, "GET /dashboard lists the recent ones")
    return run


_REFUSALS: Final = {
    404: ("Unknown recovery.", ANY),
    409: ("It has ended, or does not wait for this.", ANY),
}
OPERATIONS: Final = (
    # One path, as OpenAPI has it: templates that differ in a name alone are the same. Here it is the bot's …
    Operation(
        "POST",
        "/recover/{id}",
        recover,
        {
            200: ("It has ended (only with `wait`).", views.RecoveryView),
            202: ("The recovery has begun.", views.RecoveryView),
            404: ("Unknown bot.", ANY),
            409: ("Another run is at work on the bot.", ANY),
        },
        body=RecoverRequest,
        query={"wait": "Answer when the recovery has ended, or after so many seconds (at most 600)."},
    ),
    # … and here the recovery's.
    Operation(
        "GET",
        "/recover/{id}",
        show_recovery,
        {200: ("The recovery.", views.RecoveryView), 404: ("Unknown recovery.", ANY)},
    ),
    Operation(
        "POST",
        "/recover/{id}/cancel",
        cancel,
        {202: ("It ends at its next step.", ANY), **_REFUSALS},
        body=DecisionRequest,
    ),
    Operation(
        "POST",
        "/recover/{id}/approve",
        approve,
        {200: ("The tier goes on.", ANY), **_REFUSALS},
        body=DecisionRequest,
    ),
    Operation(
        "POST",
        "/recover/{id}/deny",
        deny,
        {200: ("The bot is left to people.", ANY), **_REFUSALS},
        body=DecisionRequest,
    ),
)
