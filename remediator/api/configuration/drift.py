"""The calls about drift: what differs from what was declared, and putting it right."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import ReconcileRequest
from remediator.configuration.drift_detector import last_report
from remediator.provisioning.reconcile import Reconciler, untouched_bot
from remediator.timestamps import iso, maybe_iso


async def drift(request: Request) -> Response:
    """Return what the detector last saw of each bot that is otherwise than it was declared."""
    async with runtime_of(request).store.read() as tx:
        return JSONResponse(drift_view(await last_report(tx)))


async def reconcile(request: Request) -> Response:
    """Inspect one bot now, and say what would put it right; with `apply`, do it."""
    runtime, name = runtime_of(request), request.path_params["bot"]
    body = await read_body(request, ReconcileRequest)
    actor = actor_of(request, body.by)
    async with runtime.store.read() as tx:
        bot = await untouched_bot(tx, name)
    reconciler = Reconciler(runtime.store, runtime.aws, runtime.prober, runtime.settings)
    differences = await reconciler.inspect(bot)
    plan: list[dict[str, Any]] = [difference.view() for difference in differences]
    answer = {"bot": name, "applied": body.apply and bool(plan), "plan": plan, "deploymentId": None}
    if not answer["applied"]:
        return JSONResponse(answer)
    reconciled = await reconciler.put_right(bot, differences, actor)
    for item, outcome in zip(plan, reconciled.outcomes, strict=True):
        item["outcome"] = outcome
    run = reconciled.run
    if run is None:
        return JSONResponse(answer)
    runtime.engine.drive(run)
    location = {"Location": run.path}
    return JSONResponse({**answer, "deploymentId": run.id, "status": run.status}, 202, headers=location)


def drift_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the detector's last report; `lookedAt` is null where there is none yet."""
    return {
        "lookedAt": maybe_iso(report["at"]),
        "problem": report["problem"],
        "bots": [
            {
                "bot": name,
                "differences": [
                    {**difference, "since": iso(difference["since"])} for difference in differences
                ],
            }
            for name, differences in sorted(report["bots"].items())
        ],
    }


OPERATIONS: Final = (
    Operation(
        "GET", "/drift", drift, {200: ("By bot; `lookedAt` is null before the first inspection.", ANY)}
    ),
    Operation(
        "POST",
        "/bots/{bot}/reconcile",
        reconcile,
        {
            200: ("The plan, or what was done.", ANY),
            202: ("Part of it takes a redeploy, which has begun.", ANY),
            404: ("Unknown bot.", ANY),
            409: ("Another run is at work on the bot.", ANY),
            502: ("AWS cannot be asked.", ANY),
        },
        body=ReconcileRequest,
    ),
)
