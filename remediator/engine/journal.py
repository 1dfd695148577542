"""Intent before effect: a step is on disk before it is done, and is never done twice.

A run is a plain function that is called again from its top after a crash. What it did is here: a finished
step gives its result back without doing anything. One that was begun and has no result is in doubt: this
process died, or AWS's answer was lost, and the effect may have happened or not. To settle it is to look for
the effect instead of repeating it; where that is harmless it is repeated.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import structlog

from remediator.aws.errors import AwsError
from remediator.model import Run, Step, StepState
from remediator.periodic import BACKOFF
from remediator.store.lease import Lease
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done, with what later steps need of it."""

    result: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A step that could not be done."""

    reason: str
    denied: bool = False  # our own permissions are at fault; trying harder would not help
    kind: str = ""  # where AWS was at fault: see remediator.aws.errors


Outcome = Done | Failed
Effect = Callable[[Mapping[str, Any]], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Journal:
    """The steps of one run."""

    store: Store
    run: Run
    lease: Lease

    async def steps(self) -> dict[str, Step]:
        """Return the run's steps by name."""
        async with self.store.read() as tx:
            return {step.name: step for step in await tx.steps(self.run.id)}

    async def step(
        self,
        name: str,
        effect: Effect,
        *,
        request: Mapping[str, Any] | None = None,
        settle: Effect | None = None,
        deadline: float = 0,
    ) -> Outcome:
        """Do the step, unless it was done before, and return its outcome.

        Where it was begun before a crash, `settle` is called instead of `effect`, if there is one.
        """
        step = (await self.steps()).get(name)
        if step is not None and step.state == "done":
            return Done(step.result, step.detail)
        if step is not None and step.state == "failed":
            denied, kind = bool(step.result.get("denied")), step.result.get("kind", "")
            return Failed(step.detail, denied=denied, kind=kind)
        if step is None:
            async with self.store.write_as(self.lease) as tx:
                await tx.add_step(self.run.id, name, request or {})
                await tx.audit("step.intended", bot=self.run.bot, run_id=self.run.id, step=name)
            outcome = await self.attempt(effect, settle, request or {}, deadline=deadline)
        else:
            outcome = await self.attempt(settle or effect, None, step.request, deadline=deadline)
        await self.finish(name, outcome, "done")
        return outcome

    async def attempt(
        self, effect: Effect, settle: Effect | None, request: Mapping[str, Any], *, deadline: float = 0
    ) -> Outcome:
        """Call the effect, again and again while AWS is away; what is in doubt is settled, not repeated.

        Without `settle` the effect is one that is harmless to repeat. It is tried for as long as BACKOFF
        lasts, and until `deadline` (Unix seconds): the next tier asks the same AWS, so nothing is to be won.
        """
        for tries, pause in enumerate(chain(BACKOFF, repeat(BACKOFF[-1]))):
            try:
                self.lease.check()
                return await effect(request)
            except AwsError as error:
                if error.kind == "in_doubt" and settle is not None:
                    return await self.attempt(settle, None, request, deadline=deadline)
                if error.kind not in ("unavailable", "in_doubt"):
                    return Failed(error.with_remedy, denied=error.kind == "denied", kind=error.kind)
                if tries >= len(BACKOFF) and self.store.clock() >= deadline:
                    return Failed(error.with_remedy, kind=error.kind)
                log.warning("aws is away", error=str(error), next_try_seconds=pause)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def finish(self, name: str, outcome: Outcome, state: StepState) -> None:
        """Write down what came of the step: `state` if it was done, else that it failed."""
        async with self.store.write_as(self.lease) as tx:
            changes: dict[str, Any]
            if isinstance(outcome, Done):
                changes = {"state": state, "result": dict(outcome.result), "detail": outcome.detail}
            else:
                result = {"denied": outcome.denied, "kind": outcome.kind}
                changes = {"state": "failed", "result": result, "detail": outcome.reason}
            if state == "acted" and isinstance(outcome, Done):
                changes["acted_at"] = tx.now
            else:
                changes["finished_at"] = tx.now
            await tx.change_step(self.run.id, name, **changes)
            await tx.audit(
                f"step.{changes['state']}",
                bot=self.run.bot,
                run_id=self.run.id,
                step=name,
                detail=changes["detail"],
            )


async def begin_run(tx: Transaction, run: Run, request: Mapping[str, Any], actor: str) -> Run:
    """Write a run down with its request as its first step, "asked"; drive it once the transaction is kept."""
    stored = await tx.add_run(run)
    await tx.add_step(run.id, "asked", request)
    await tx.change_step(run.id, "asked", state="done", detail=f"by {actor}", finished_at=tx.now)
    await tx.audit(f"{run.kind}.asked", bot=run.bot, run_id=run.id, actor=actor, **request)
    return stored
