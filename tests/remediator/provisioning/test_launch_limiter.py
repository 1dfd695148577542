"""Our own limit on launches."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.model import Run
from remediator.provisioning.launch_limiter import FACT, next_slot, wait_for_slot
from remediator.store.store import Store


@given(
    st.lists(st.floats(0, 20), max_size=60),
    st.integers(1, 8),
    st.sampled_from([0.25, 0.5, 2.0]),
)
def test_no_more_than_the_burst_and_what_was_refilled_begins_in_any_time(
    gaps: list[float], burst: int, refill: float
) -> None:
    now = full_at = 1000.0
    starts: list[float] = []
    for gap in gaps:
        now += gap / 10
        at, full_at = next_slot(full_at, now, burst, refill)
        assert at >= now
        starts.append(at)
    assert starts == sorted(starts), "first come, first served"
    for first, start in enumerate(starts):
        for last in range(first, len(starts)):
            assert last - first + 1 <= burst + (starts[last] - start) / refill + 1e-6


async def test_slots_are_shared_by_way_of_the_database_and_taken_in_order(tmp_path: Path) -> None:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'r.db'}", lambda: 1000.0)
    try:
        async with store.write() as tx:
            runs = [
                await tx.add_run(Run(f"dep-{n}", "deploy", f"b{n}", "manual", "", "", "", "", tx.now, None))
                for n in range(6)
            ]
        begun: list[str] = []

        async def launch(run: Run) -> None:
            await wait_for_slot(store, store.lease(run), 2, 0.2)
            begun.append(run.id)

        tasks = []
        for run in runs:
            tasks.append(asyncio.create_task(launch(run)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert begun == [run.id for run in runs]
        async with store.read() as tx:
            assert (await tx.fact(FACT))["spent"] == pytest.approx(1000 + 6 * 0.2)
    finally:
        await store.close()
