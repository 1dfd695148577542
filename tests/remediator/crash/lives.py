"""A remediator that dies at every single write of what it does, one life after the other, in one run.

Every life gets a few writes and dies at the last of them: right after its commit (an intent is on disk and
the effect was not begun, or a result is on disk and nothing followed), or just before it (the effect was
done, and its result is lost). The cloud's log of effects says whether anything was done twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from remediator import runtime
from remediator.model import Run
from remediator.runtime import Runtime
from remediator.store.transaction import Transaction
from sandbox.process.waiting import wait_until
from templates import BUNDLED
from tests.remediator.conftest import World, settings_for

When = Literal["after the commit", "before the commit"]
State = Callable[[Transaction], Awaitable[tuple[bool, object]]]  # whether it is over, and how far it is
WHEN: list[When] = ["after the commit", "before the commit"]
MOST_LIVES = 90
# What goes on beside the runs writes when its time has come: a death there would not be at a step of a run.
HOUSEKEEPING = {"leases", "Notifier.serve", "StormWatch.serve", "CostWorker.serve", "DriftDetector.serve"}


@dataclass
class Life:
    """How many writes are left, and what happens at the last."""

    left: int = 10**9
    when: When = "after the commit"
    over: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False  # its engine is being stopped: what was its is not given back

    def die(self) -> None:
        """Write nothing from now on. Cancelled is how a task ends that nobody waits for."""
        self.over.set()
        raise asyncio.CancelledError


def is_housekeeping() -> bool:
    """Return whether the present task is one that goes on beside the runs."""
    task = asyncio.current_task()
    assert task is not None
    return not HOUSEKEEPING.isdisjoint({task.get_name(), getattr(task.get_coro(), "__qualname__", "")})


@dataclass
class Lives:
    """One service after the other over the same database, each with the same clients of AWS: they are slow
    to make, and hold nothing."""

    world: World
    database: Path
    lives: list[Life]
    settings: dict[str, Any]

    @asynccontextmanager
    async def immortal(self) -> AsyncIterator[Runtime]:
        """Run a service that prepares or judges; with the bundled templates, so that no group scales."""
        self.lives.append(Life())
        settings = {**self.settings, "templates_dir": BUNDLED}
        async with runtime.run(settings_for(self.database, self.world.cloud, **settings)) as running:
            yield running

    async def until_ended(self, run_id: str, when: When) -> Run:
        """Live and die until the run has ended."""

        async def read_state(tx: Transaction) -> tuple[bool, object]:
            run = await tx.run(run_id)
            assert run is not None
            unowned = replace(run, owner=None, lease_until=None, fence=0)
            return run.finished_at is not None, (unowned, await tx.steps(run_id))

        await self.until_over(read_state, when)
        async with self.immortal() as running, running.store.read() as tx:
            run = await tx.run(run_id)
        assert run is not None
        return run

    async def until_over(self, read_state: State, when: When) -> None:
        """Live and die until it is over; which takes some deaths, or the test proves nothing."""
        fewest = 2 if when == "after the commit" else 3  # the first takes the run up
        writes, before = fewest, object()
        for number in range(MOST_LIVES):
            life = Life(writes, when)
            self.lives.append(life)
            settings = settings_for(self.database, self.world.cloud, **self.settings)
            try:
                async with runtime.run(settings) as running:
                    await wait_until(
                        lambda: dead_or_over(life, running, read_state),  # noqa: B023 -- awaited within the loop
                        timeout=40,
                        what="death, or the end",
                        every=0.005,
                    )
                    async with running.store.read() as tx:
                        over, state = await read_state(tx)
            except asyncio.CancelledError:  # it died while it started
                assert life.over.is_set()
                writes += 1
                continue
            if over:
                assert number >= 2, "it never died"
                return
            # An effect that writes itself needs more than one write to come further.
            writes, before = fewest if state != before else writes + 1, state
        pytest.fail(f"not over after {MOST_LIVES} lives")


async def dead_or_over(life: Life, running: Runtime, read_state: State) -> bool:
    if life.over.is_set() or running.engine._tasks:
        return life.over.is_set()
    async with running.store.read() as tx:
        return (await read_state(tx))[0]
