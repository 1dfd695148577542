"""The calls about what carries our tag and is nobody's: list it, and end it."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, answered, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import ReapRequest
from remediator.provisioning.orphans import Orphan, OrphanDetector, reap
from remediator.runtime import Runtime
from remediator.timestamps import iso


async def list_orphans(request: Request) -> Response:
    """Return instances, volumes and addresses with our tag that no bot and no run claims."""
    runtime = runtime_of(request)
    grace = runtime.settings.orphan_grace
    return JSONResponse([_orphan_view(orphan, grace) for orphan in await _orphans(runtime)])


async def reap_orphans(request: Request) -> Response:
    """Say what would be ended of these, and end it with `apply`: orphans alone, and after the grace."""
    runtime, body = runtime_of(request), await read_body(request, ReapRequest)
    actor = actor_of(request, body.by)
    orphans = {orphan.id: orphan for orphan in await _orphans(runtime)}
    ids = dict.fromkeys((*body.instance_ids, *body.volume_ids, *body.allocation_ids))
    plan = [_judge(runtime, id_, orphans.get(id_)) for id_ in ids]
    for item in plan if body.apply else ():
        if item["verdict"] == "reap":
            fault = await reap(runtime.store, runtime.aws, orphans[item["id"]], actor)
            item |= {"verdict": "failed", "why": fault} if fault else {"verdict": "reaped"}
    return JSONResponse({"applied": body.apply, "plan": plan})


async def _orphans(runtime: Runtime) -> list[Orphan]:
    detector = OrphanDetector(runtime.store, runtime.aws)
    return await answered(detector.detect(), "")


def _judge(runtime: Runtime, id_: str, orphan: Orphan | None) -> dict[str, Any]:
    """Return whether it is to be ended: an orphan for longer than the grace, and nothing else."""
    if orphan is None:
        return {"id": id_, "verdict": "keep", "why": "it is no orphan of ours: GET /orphans lists them"}
    grace = runtime.settings.orphan_grace
    seconds = orphan.since + grace - runtime.store.clock()
    if seconds > 0:
        reason = f"it has been an orphan for a short time; ask again in {seconds:.0f} s"
        return {**_orphan_view(orphan, grace), "verdict": "keep", "why": reason}
    verb = {"instance": "terminate", "volume": "delete", "address": "release"}[orphan.kind]
    return {**_orphan_view(orphan, grace), "verdict": "reap", "why": f"{verb} it"}


def _orphan_view(orphan: Orphan, grace: float) -> dict[str, Any]:
    return {
        "kind": orphan.kind,
        "id": orphan.id,
        "state": orphan.state,
        "bot": orphan.bot,
        "deployment": orphan.deployment,
        "since": iso(orphan.since),
        "reapableFrom": iso(orphan.since + grace),
    }


OPERATIONS: Final = (
    Operation(
        "GET",
        "/orphans",
        list_orphans,
        {200: ("What nobody claims.", list[dict[str, Any]]), 502: ("AWS refused.", ANY)},
    ),
    Operation(
        "POST",
        "/orphans/reap",
        reap_orphans,
        {200: ("The plan, and what became of it.", ANY), 502: ("AWS refused.", ANY)},
        body=ReapRequest,
    ),
)
