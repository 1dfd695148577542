"""Intent before effect: a step is on disk before it is done, and is never done twice.

A run is a plain function that is called again from its top after a crash. What it did is here: a
finished step gives its result back without doing anything; one that was begun and has no result is
settled by looking at the effect, or done again where that is harmless.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Final

import structlog

from remediator.ec2 import AwsError
from remediator.lease import Lease
from remediator.model import Run, Step, StepState
from remediator.store import Store

log = structlog.get_logger()

BACKOFF: Final = (0.5, 1, 2, 4, 8)  # seconds between tries while AWS is away or busy


@dataclass(frozen=True, slots=True)
class Done:
    result: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    why: str
    denied: bool = False  # our own permissions are at fault; trying harder would not help
    kind: str = ""  # where AWS was at fault: see remediator.awserror


Outcome = Done | Failed
Effect = Callable[[Mapping[str, Any]], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Journal:
    """The steps of one run."""

    store: Store
    run: Run
    lease: Lease

    async def steps(self) -> dict[str, Step]:
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
        """The step's outcome, from before or from now. After a crash `settle` is asked, not `effect`."""
        begun = (await self.steps()).get(name)
        if begun is not None and begun.state == "done":
            return Done(begun.result, begun.detail)
        if begun is not None and begun.state == "failed":
            result = begun.result
            return Failed(begun.detail, denied=bool(result.get("denied")), kind=result.get("kind", ""))
        if begun is None:
            async with self.store.hold(self.lease) as tx:
                await tx.intend(self.run.id, name, request or {})
                await tx.audit("step.intended", bot=self.run.bot, run_id=self.run.id, step=name)
            outcome = await self.attempt(effect, settle, request or {}, deadline=deadline)
        else:
            outcome = await self.attempt(settle or effect, None, begun.request, deadline=deadline)
        await self.finish(name, outcome, "done")
        return outcome

    async def attempt(
        self, effect: Effect, settle: Effect | None, request: Mapping[str, Any], *, deadline: float = 0
    ) -> Outcome:
        """Do it, with patience for an AWS that is away. What may have been done is settled, not repeated.

        Without `settle` the effect is one that is harmless to repeat. It is tried for as long as BACKOFF
        lasts, and until `deadline` (Unix time): the next tier asks the same AWS, so nothing is to be won.
        """
        for tries, pause in enumerate(chain(BACKOFF, repeat(BACKOFF[-1]))):
            try:
                self.lease.check()
                return await effect(request)
            except AwsError as error:
                if error.kind == "in_doubt" and settle is not None:
                    return await self.attempt(settle, None, request, deadline=deadline)
                if error.kind not in ("unavailable", "in_doubt"):
                    return Failed(error.told, denied=error.kind == "denied", kind=error.kind)
                if tries >= len(BACKOFF) and self.store.clock() >= deadline:
                    return Failed(error.told, kind=error.kind)
                log.warning("aws is away", error=str(error), next_try_seconds=pause)
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def finish(self, name: str, outcome: Outcome, state: StepState) -> None:
        """Write what came of it: `state` if it was done."""
        async with self.store.hold(self.lease) as tx:
            ended: dict[str, Any]
            if isinstance(outcome, Done):
                ended = {"state": state, "result": dict(outcome.result), "detail": outcome.detail}
            else:
                result = {"denied": outcome.denied, "kind": outcome.kind}
                ended = {"state": "failed", "result": result, "detail": outcome.why}
            if state == "acted" and isinstance(outcome, Done):
                ended["acted_at"] = tx.now
            else:
                ended["finished_at"] = tx.now
            await tx.change_step(self.run.id, name, **ended)
            await tx.audit(
                f"step.{ended['state']}",
                bot=self.run.bot,
                run_id=self.run.id,
                step=name,
                detail=ended["detail"],
            )
