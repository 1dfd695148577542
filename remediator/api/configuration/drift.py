"""The calls about drift: what differs from what was declared, and putting it right."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, bot_named, free_bot, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import ReconcileRequest
from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_attributes import METADATA_OPTIONS
from remediator.configuration.drift import Difference
from remediator.configuration.drift_detector import DriftDetector, last_report
from remediator.errors import Refused
from remediator.model import Bot, Run
from remediator.provisioning import blue_green
from remediator.provisioning.idle import require_active, require_untouched
from remediator.runtime import Runtime
from remediator.store.errors import ConflictError
from remediator.store.transaction import Transaction
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
        bot = await _untouched_bot(tx, name)
    detector = _detector(runtime)
    differences = await _inspect(detector, bot)
    plan: list[dict[str, Any]] = [difference.view() for difference in differences]
    answer = {"bot": name, "applied": body.apply and bool(plan), "plan": plan, "deploymentId": None}
    if not answer["applied"]:
        return JSONResponse(answer)
    async with runtime.store.write() as tx:
        await _untouched_bot(tx, name)
        await tx.audit("reconcile.asked", bot=name, actor=actor, plan=plan)
    for difference, item in zip(differences, plan, strict=True):
        item["outcome"] = await _put_right(runtime, bot, difference, actor)
    disruptive = [difference.field for difference in differences if difference.disruptive]
    if not disruptive:
        await detector.record(bot, await _inspect(_detector(runtime), bot))
        return JSONResponse(answer)
    run = await _redeploy(runtime, name, actor, f"it drifted: {', '.join(disruptive)}")
    runtime.engine.drive(run)
    location = {"Location": run.path}
    return JSONResponse({**answer, "deploymentId": run.id, "status": run.status}, 202, headers=location)


def _detector(runtime: Runtime) -> DriftDetector:
    """Return a detector that remembers nothing, and so reads all there is."""
    return DriftDetector(runtime.store, runtime.aws, runtime.prober, runtime.settings)


async def _inspect(detector: DriftDetector, bot: Bot) -> list[Difference]:
    try:
        return await detector.inspect(bot)
    except AwsError as error:
        raise Refused(
            "unavailable",
            f"its instance cannot be looked at: {error}",
            field="bot",
            remedy="see to it that this service may call EC2, then ask again",
        ) from None


async def _put_right(runtime: Runtime, bot: Bot, difference: Difference, actor: str) -> str:
    """Return what became of a difference. A disruptive one is left to the redeploy that follows."""
    if difference.remedy in ("redeploy", "person"):
        return "redeploys" if difference.remedy == "redeploy" else "not touched"
    try:
        await _change_instance(runtime.aws, bot, difference)
    except AwsError as error:
        outcome, event = f"failed: {error}", "reconcile.failed"
    else:
        outcome, event = "done", "reconcile.done"
    async with runtime.store.write() as tx:
        facts: dict[str, Any] = {
            "field": difference.field,
            "was": difference.real,
            "wanted": difference.stored,
            "instance": bot.instance_id,
            "outcome": outcome,
        }
        await tx.audit(event, bot=bot.name, actor=actor, **facts)
    return outcome


async def _change_instance(aws: Aws, bot: Bot, difference: Difference) -> None:
    match difference.remedy:
        case "tag":
            await aws.tag(bot.instance_id, difference.stored)
        case "set groups":
            await aws.set_security_groups(bot.instance_id, difference.stored)
        case "set metadata options":
            await aws.set_metadata_options(bot.instance_id, {**METADATA_OPTIONS, **difference.stored})


async def _redeploy(runtime: Runtime, name: str, actor: str, reason: str) -> Run:
    """Begin a redeploy with the configuration that is live, not with one that waits."""
    try:
        async with runtime.store.write() as tx:
            bot = await free_bot(tx, name, actor)
            return await blue_green.begin(
                runtime.settings, tx, bot, version=bot.version or None, actor=actor, reason=reason
            )
    except ConflictError:
        raise Refused("conflict", f"a run of {name!r} has just begun", field="bot") from None


async def _untouched_bot(tx: Transaction, name: str) -> Bot:
    """Return the bot; Refused where a run is at work on it: it may differ for good reasons then.

    A recovery that waits goes on waiting beside what needs no redeploy.
    """
    bot = await bot_named(tx, name)
    await require_untouched(tx, bot)
    require_active(bot)
    return bot


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
    Operation("GET", "/drift", drift, {200: ("By bot; `lookedAt` is null before the first look.", ANY)}),
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
