"""The HTTP calls about what carries our tag and is nobody's: list it, and end it."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import views
from remediator.awserror import AwsError
from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of
from remediator.operation import ANY, Operation
from remediator.orphans import Orphan, OrphanWatch
from remediator.requests import ReapRequest, read_body

T = TypeVar("T")


async def answered(question: Awaitable[T], field: str = "instanceId") -> T:
    """RequestError 502 where AWS does not answer."""
    try:
        return await question
    except AwsError as error:
        raise RequestError(502, str(error), field=field, remedy=error.remedy) from None


@dataclass(frozen=True, slots=True)
class Reaping(Handlers):
    @property
    def _watch(self) -> OrphanWatch:
        return OrphanWatch(self.services.store, self.services.aws, self.services.metrics)

    async def list_orphans(self, _: Request) -> Response:
        """Instances, volumes and addresses with our tag that no bot and no run claims."""
        return JSONResponse([self._orphan(one) for one in await answered(self._watch.look(), "")])

    async def reap_orphans(self, request: Request) -> Response:
        """Say what would be ended of these, and end it with `apply`: orphans alone, and after the grace."""
        asked = await read_body(request, ReapRequest)
        who = asked.by or actor_of(request)
        found = {one.id: one for one in await answered(self._watch.look(), "")}
        wanted = dict.fromkeys((*asked.instance_ids, *asked.volume_ids, *asked.allocation_ids))
        plan = [self._judged(id_, found.get(id_)) for id_ in wanted]
        for item in plan if asked.apply else ():
            if item["verdict"] == "reap":
                item |= await self._reap(found[item["id"]], who)
        return JSONResponse({"applied": asked.apply, "plan": plan})

    def _judged(self, id_: str, orphan: Orphan | None) -> dict[str, Any]:
        if orphan is None:
            return {"id": id_, "verdict": "keep", "why": "it is no orphan of ours: GET /orphans lists them"}
        left = orphan.since + self.services.settings.orphan_grace - self.services.store.clock()
        if left > 0:
            why = f"it has been an orphan for a short time; ask again in {left:.0f} s"
            return {**self._orphan(orphan), "verdict": "keep", "why": why}
        what = {"instance": "terminate", "volume": "delete", "address": "release"}[orphan.kind]
        return {**self._orphan(orphan), "verdict": "reap", "why": f"{what} it"}

    async def _reap(self, orphan: Orphan, who: str) -> dict[str, Any]:
        aws = self.services.aws
        end = {"instance": aws.terminate, "volume": aws.delete_volume, "address": aws.release_address}
        async with self.services.store.write() as tx:
            await tx.audit("orphan.reap", bot=orphan.bot, actor=who, kind=orphan.kind, id=orphan.id)
        try:
            await end[orphan.kind](orphan.id, lambda: None)
        except AwsError as error:
            return {"verdict": "failed", "why": error.told}
        return {"verdict": "reaped"}

    def _orphan(self, one: Orphan) -> dict[str, Any]:
        until = one.since + self.services.settings.orphan_grace
        return {
            "kind": one.kind,
            "id": one.id,
            "state": one.state,
            "bot": one.bot,
            "deployment": one.deployment,
            "since": views.iso(one.since),
            "reapableFrom": views.iso(until),
        }


OPERATIONS: Final = (
    Operation(
        "GET",
        "/orphans",
        "list_orphans",
        {200: ("What nobody claims.", list[dict[str, Any]]), 502: ("AWS refused.", ANY)},
    ),
    Operation(
        "POST",
        "/orphans/reap",
        "reap_orphans",
        {200: ("The plan, and what became of it.", ANY), 502: ("AWS refused.", ANY)},
        body=ReapRequest,
    ),
)
