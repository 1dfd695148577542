"""The HTTP calls about rolling updates."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from remediator import metrics
from remediator.deployments import described
from remediator.errors import RequestError
from remediator.experience import Experience
from remediator.handlers import Handlers, actor_of, unknown
from remediator.operation import ANY, Operation
from remediator.requests import RolloutRequest, SpokenRequest, read_body
from remediator.rollout import Place, Rollout, Status
from remediator.rollouts import Rollouts
from remediator.stream import watch
from remediator.transaction import Transaction
from remediator.views import iso, maybe_iso

RECENT: Final = 50


class MemberView(TypedDict):
    bot: str
    status: str
    deploymentId: str | None
    percent: int
    reason: str
    startedAt: str | None
    finishedAt: str | None


class RolloutView(TypedDict):
    """`reason`: what it is at. `purpose`: why it was asked for."""

    rolloutId: str
    status: str
    reason: str
    purpose: str
    by: str
    template: str | None
    environment: str | None
    batchSize: int
    maxUnavailable: int
    startedAt: str
    finishedAt: str | None
    percent: int
    estimatedSeconds: float | None
    estimatedFinish: str | None
    bots: list[MemberView]


async def view(tx: Transaction, rollout: Rollout) -> RolloutView:
    places = await Rollouts(tx).places(rollout)
    expected = await Experience(tx).of("redeploy")
    told: list[MemberView] = []
    left = 0.0
    for place in places:
        member, percent = _member(place), 100
        if place.run is not None and place.state == "running":
            one = await described(tx, place.run, expected=expected)
            percent, left = one["percent"], max(left, one["estimatedSeconds"] or 0)
        told.append({**member, "percent": 0 if place.state == "waiting" else percent})
    waiting = {place.member.position // rollout.batch_size for place in places if place.state == "waiting"}
    under_way = {place.member.position // rollout.batch_size for place in places if place.state == "running"}
    left += len(waiting - under_way) * sum(expected.values())
    ended = rollout.finished_at is not None
    return {
        "rolloutId": rollout.id,
        "status": rollout.status,
        "reason": rollout.why,
        "purpose": rollout.reason,
        "by": rollout.actor,
        "template": rollout.selection.get("template"),
        "environment": rollout.selection.get("environment"),
        "batchSize": rollout.batch_size,
        "maxUnavailable": rollout.max_unavailable,
        "startedAt": iso(rollout.created_at),
        "finishedAt": maybe_iso(rollout.finished_at),
        "percent": sum(one["percent"] for one in told) // max(len(told), 1),
        "estimatedSeconds": None if ended else round(left, 1),
        "estimatedFinish": None if ended else iso(tx.now + left),
        "bots": told,
    }


def _member(place: Place) -> MemberView:
    run = place.run
    return {
        "bot": place.member.bot,
        "status": place.state,
        "deploymentId": place.member.run_id,
        "percent": 0,
        "reason": run.reason if run is not None else place.member.skipped or place.held,
        "startedAt": maybe_iso(run.created_at if run is not None else None),
        "finishedAt": maybe_iso(run.finished_at if run is not None else None),
    }


async def families(tx: Transaction) -> list[Metric]:
    """The rollouts that go on, as they are at a scrape."""
    going = await Rollouts(tx).having("running", "paused")
    active = metrics.family(metrics.ROLLOUT_ACTIVE, [(one.id,) for one in going])
    share = metrics.family(metrics.ROLLOUT_PROGRESS, [])
    for one in going:
        share.add_metric([one.id], (await view(tx, one))["percent"] / 100)
    return [active, share]


@dataclass(frozen=True, slots=True)
class Rolling(Handlers):
    async def begin_rollout(self, request: Request) -> Response:
        """Redeploy many bots, batch after batch; it stops when one fails or too many are ill."""
        asked = await read_body(request, RolloutRequest)
        who = asked.by or actor_of(request)
        async with self.services.store.write() as tx:
            bots = await self._selected(tx, asked)
            rollout = Rollout(
                id="rol-" + secrets.token_hex(8),
                status="running",
                why="about to begin",
                reason=asked.reason,
                actor=who,
                selection=asked.selection,
                batch_size=asked.batch_size,
                max_unavailable=asked.max_unavailable,
                created_at=tx.now,
                finished_at=None,
            )
            await Rollouts(tx).add(rollout, bots)
            await tx.audit("rollout.asked", actor=who, rollout=rollout.id, reason=asked.reason, bots=bots)
            answer = await view(tx, rollout)
        return JSONResponse(answer, 202, headers={"Location": f"/rollouts/{rollout.id}"})

    async def _selected(self, tx: Transaction, asked: RolloutRequest) -> Sequence[str]:
        known = {bot.name: bot for bot in await tx.bots() if bot.state == "active"}
        strangers = [name for name in asked.bots or [] if name not in known]
        if strangers:
            raise RequestError(
                422, f"there is no {strangers[0][:80]!r}", field="bots", remedy="GET /sd lists the bots"
            )
        chosen = [
            name
            for name, bot in known.items()
            if (asked.bots is None or name in asked.bots)
            and asked.template in (None, bot.template)
            and asked.environment in (None, bot.environment)
        ]
        if not chosen:
            raise RequestError(422, "no bot is meant", field="bots", remedy="GET /sd lists the bots")
        for other in await Rollouts(tx).having("running", "paused"):
            taken = {member.bot for member in await Rollouts(tx).members(other.id)} & set(chosen)
            if taken:
                remedy = f"wait for its end, or POST /rollouts/{other.id}/cancel"
                what = f"{min(taken)!r} is in {other.id} ({other.status})"
                raise RequestError(409, what, field="bots", remedy=remedy)
        return list(asked.bots) if asked.bots is not None and set(asked.bots) == set(chosen) else chosen

    async def list_rollouts(self, _: Request) -> Response:
        """The recent ones, newest first."""
        async with self.services.store.read() as tx:
            return JSONResponse([await view(tx, one) for one in await Rollouts(tx).recent(RECENT)])

    async def show_rollout(self, request: Request) -> Response:
        """One of them: its bots, and how far each is. `?watch=true` streams it."""
        rollout_id = request.path_params["rollout_id"]

        async def look() -> Mapping[str, Any]:
            async with self.services.store.read() as tx:
                return await view(tx, await self._rollout(tx, rollout_id))

        found = await look()
        if request.query_params.get("watch") == "true":
            return watch(look, self.services.engine.is_leaving)
        return JSONResponse(found)

    async def pause_rollout(self, request: Request) -> Response:
        """Begin no further bot. What is under way goes on."""
        return await self._speak(request, "paused", ("running",))

    async def resume_rollout(self, request: Request) -> Response:
        """Go on, also where it stopped by itself: then those that failed are tried again."""
        return await self._speak(request, "running", ("paused", "stopped"))

    async def cancel_rollout(self, request: Request) -> Response:
        """End it. What is under way goes on."""
        return await self._speak(request, "cancelled", ("running", "paused", "stopped"))

    async def _speak(
        self, request: Request, status: Literal["paused", "running", "cancelled"], after: Sequence[Status]
    ) -> Response:
        spoken = await read_body(request, SpokenRequest)
        who = spoken.by or actor_of(request)
        async with self.services.store.write() as tx:
            rollout = await self._rollout(tx, request.path_params["rollout_id"])
            if rollout.status not in after:
                what = f"{rollout.id} is {rollout.status}, not {' or '.join(after)}"
                raise RequestError(409, what, field="rolloutId")
            kept, word = Rollouts(tx), "resumed" if status == "running" else status
            why = f"{word} by {who}" + (f": {spoken.reason}" if spoken.reason else "")
            ended = tx.now if status == "cancelled" else None
            await kept.change(rollout.id, status=status, why=why, finished_at=ended)
            if status == "running":
                for place in await kept.places(rollout):
                    if place.state == "failed":
                        await kept.change_member(place.member, run_id=None)
            await tx.audit(f"rollout.{word}", actor=who, rollout=rollout.id, reason=spoken.reason)
            answer = await view(tx, await self._rollout(tx, rollout.id))
        return JSONResponse(answer)

    async def _rollout(self, tx: Transaction, rollout_id: str) -> Rollout:
        found = await Rollouts(tx).get(rollout_id)
        if found is None:
            raise unknown("rolloutId", rollout_id, "GET /rollouts lists the recent ones")
        return found


_ONE: Final = {200: ("The rollout.", RolloutView), 404: ("Unknown rollout.", ANY)}
_SPOKEN: Final = {**_ONE, 409: ("It is not in a status for that.", ANY)}

OPERATIONS: Final = (
    Operation(
        "POST",
        "/rollouts",
        "begin_rollout",
        {202: ("It has begun.", RolloutView), 409: ("One of the bots is in another rollout.", ANY)},
        body=RolloutRequest,
    ),
    Operation("GET", "/rollouts", "list_rollouts", {200: ("Rollouts.", list[RolloutView])}),
    Operation(
        "GET",
        "/rollouts/{rollout_id}",
        "show_rollout",
        _ONE,
        query={"watch": "true: server-sent events `step`, `progress` and `end`, each with the whole view."},
    ),
    Operation("POST", "/rollouts/{rollout_id}/pause", "pause_rollout", _SPOKEN, body=SpokenRequest),
    Operation("POST", "/rollouts/{rollout_id}/resume", "resume_rollout", _SPOKEN, body=SpokenRequest),
    Operation("POST", "/rollouts/{rollout_id}/cancel", "cancel_rollout", _SPOKEN, body=SpokenRequest),
)
