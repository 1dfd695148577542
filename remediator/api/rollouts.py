"""The calls about rolling updates."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from remediator import metrics
from remediator.api.body import read_body
from remediator.api.deployments import deployment_view, under_way
from remediator.api.lookup import actor_of, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import DecisionRequest, RolloutRequest
from remediator.api.sse import watch
from remediator.metrics import Samples, Series
from remediator.provisioning.progress import expected_seconds
from remediator.rollouts.begin import Wanted, begin, change_status
from remediator.rollouts.planner import MemberState, Rollout
from remediator.rollouts.repository import RolloutRepository
from remediator.store.transaction import Transaction
from remediator.timestamps import iso, maybe_iso

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


async def rollout_view(tx: Transaction, rollout: Rollout) -> RolloutView:
    """Return a rollout as it is now; what is estimated is null once it has ended."""
    members = await RolloutRepository(tx).member_states(rollout)
    expected = await expected_seconds(tx, "redeploy")
    redeploys = {
        member.run.id: await deployment_view(tx, member.run, expected=expected)
        for member in members
        if member.run is not None and member.status == "running"
    }
    percent = {run_id: redeploy["percent"] for run_id, redeploy in redeploys.items()}
    seconds = max((redeploy["estimatedSeconds"] or 0 for redeploy in redeploys.values()), default=0.0)
    seconds += _batches_to_begin(rollout, members) * sum(expected.values())
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
        "percent": percent_of(members, percent),
        "estimatedSeconds": None if ended else round(seconds, 1),
        "estimatedFinish": None if ended else iso(tx.now + seconds),
        "bots": [_member_view(member, percent) for member in members],
    }


def _batches_to_begin(rollout: Rollout, members: Sequence[MemberState]) -> int:
    """Return how many batches have members that wait, and none that is under way."""

    def batches(status: str) -> set[int]:
        positions = (member.member.position for member in members if member.status == status)
        return {position // rollout.batch_size for position in positions}

    return len(batches("waiting") - batches("running"))


def _member_view(state: MemberState, percent: Mapping[str, int]) -> MemberView:
    run = state.run
    return {
        "bot": state.member.bot,
        "status": state.status,
        "deploymentId": state.member.run_id,
        "percent": _member_percent(state, percent),
        "reason": run.reason if run is not None else state.member.skipped or state.blocked,
        "startedAt": maybe_iso(run.created_at if run is not None else None),
        "finishedAt": maybe_iso(run.finished_at if run is not None else None),
    }


def percent_of(members: Sequence[MemberState], percent: Mapping[str, int]) -> int:
    """Return how far a rollout is. `percent`: how far each redeploy under way is, by the id of its run."""
    return sum(_member_percent(member, percent) for member in members) // max(len(members), 1)


def _member_percent(state: MemberState, percent: Mapping[str, int]) -> int:
    if state.status == "running" and state.run is not None:
        return percent[state.run.id]
    return 0 if state.status == "waiting" else 100


async def samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return the rollouts that run or are paused, and how far each is, for a scrape."""
    rollouts = await RolloutRepository(tx).with_status("running", "paused")
    members = await RolloutRepository(tx).outcomes("running", "paused")
    percent = {run.id: percent for run, percent in await under_way(tx, ["redeploy"])} if rollouts else {}
    return {
        metrics.ROLLOUT_ACTIVE: [((rollout.id,), 1) for rollout in rollouts],
        metrics.ROLLOUT_PROGRESS: [
            ((rollout.id,), percent_of(members.get(rollout.id, []), percent) / 100) for rollout in rollouts
        ],
    }


async def begin_rollout(request: Request) -> Response:
    """Redeploy many bots, batch after batch; it stops when one fails or too many are ill."""
    body = await read_body(request, RolloutRequest)
    actor = actor_of(request, body.by)
    async with runtime_of(request).store.write() as tx:
        rollout = await begin(tx, body.spec(), actor)
        answer = await rollout_view(tx, rollout)
    return JSONResponse(answer, 202, headers={"Location": f"/rollouts/{rollout.id}"})


async def list_rollouts(request: Request) -> Response:
    """Return the recent ones, newest first."""
    async with runtime_of(request).store.read() as tx:
        return JSONResponse(
            [await rollout_view(tx, rollout) for rollout in await RolloutRepository(tx).recent(RECENT)]
        )


async def show_rollout(request: Request) -> Response:
    """Return one of them: its bots, and how far each is. `?watch=true` streams it."""
    runtime, rollout_id = runtime_of(request), request.path_params["rollout_id"]

    async def read_view() -> Mapping[str, Any]:
        async with runtime.store.read() as tx:
            return await rollout_view(tx, await _rollout(tx, rollout_id))

    answer = await read_view()
    if request.query_params.get("watch") == "true":
        return watch(read_view, runtime.engine.is_leaving)
    return JSONResponse(answer)


async def pause_rollout(request: Request) -> Response:
    """Begin no further bot. What is under way goes on."""
    return await _change(request, "paused")


async def resume_rollout(request: Request) -> Response:
    """Go on, also where it stopped by itself: then those that failed are tried again."""
    return await _change(request, "running")


async def cancel_rollout(request: Request) -> Response:
    """End it. What is under way goes on."""
    return await _change(request, "cancelled")


async def _change(request: Request, status: Wanted) -> Response:
    body = await read_body(request, DecisionRequest)
    async with runtime_of(request).store.write() as tx:
        rollout = await _rollout(tx, request.path_params["rollout_id"])
        await change_status(tx, rollout, status, actor_of(request, body.by), body.reason)
        answer = await rollout_view(tx, await _rollout(tx, rollout.id))
    return JSONResponse(answer)


async def _rollout(tx: Transaction, rollout_id: str) -> Rollout:
    rollout = await RolloutRepository(tx).get(rollout_id)
    if rollout is None:
        raise not_found("rolloutId", rollout_id, "GET /rollouts lists the recent ones")
    return rollout


_ROLLOUT: Final = {200: ("The rollout.", RolloutView), 404: ("Unknown rollout.", ANY)}
_CHANGE: Final = {**_ROLLOUT, 409: ("It is not in a status for that.", ANY)}

OPERATIONS: Final = (
    Operation(
        "POST",
        "/rollouts",
        begin_rollout,
        {202: ("It has begun.", RolloutView), 409: ("One of the bots is in another rollout.", ANY)},
        body=RolloutRequest,
    ),
    Operation("GET", "/rollouts", list_rollouts, {200: ("Rollouts.", list[RolloutView])}),
    Operation(
        "GET",
        "/rollouts/{rollout_id}",
        show_rollout,
        _ROLLOUT,
        query={"watch": "true: server-sent events `step`, `progress` and `end`, each with the whole view."},
    ),
    Operation("POST", "/rollouts/{rollout_id}/pause", pause_rollout, _CHANGE, body=DecisionRequest),
    Operation("POST", "/rollouts/{rollout_id}/resume", resume_rollout, _CHANGE, body=DecisionRequest),
    Operation("POST", "/rollouts/{rollout_id}/cancel", cancel_rollout, _CHANGE, body=DecisionRequest),
)
