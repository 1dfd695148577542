"""The simulator itself: nothing is violated, and the same seed gives the same events."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import cast

import pytest

from remediator.aws.ssm_commands import RESTART
from sandbox.simulator.corpus import corpus
from sandbox.simulator.simulate import check, simulate
from sandbox.simulator.simulated_aws import Caller, Region, SimulatedAws
from sandbox.simulator.virtual_clock import NothingHappensError, VirtualLoop, run
from sandbox.simulator.world import World

SEEDS = 100  # .ci/run takes a thousand


@pytest.mark.timeout(300)
def test_no_seed_violates_anything() -> None:
    violations = [result for seed in range(SEEDS) if (result := check(seed)).violation]
    assert not violations, "\n".join(f"seed {result.seed}: {result.violation}" for result in violations)


@pytest.mark.parametrize("seed", corpus())
def test_what_was_mended_stays_so(seed: int) -> None:
    assert not check(seed).violation


def test_a_seed_is_replayed_event_by_event() -> None:
    lives = [simulate(seed) for seed in range(10)]
    assert lives == [simulate(seed) for seed in range(10)]
    assert sum(life.scaled_out for life in lives) > 0


def test_a_thousand_bots() -> None:
    """The largest worlds are drawn rarely, so one is asked for."""
    result = simulate(1, bots=1000)
    assert not result.violation
    assert result.events > 100


def test_time_jumps_to_the_next_timer() -> None:
    loop = VirtualLoop()

    async def main() -> float:
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(86400 * 3))
        return asyncio.get_running_loop().time()

    assert run(main(), loop) == pytest.approx(86400 * 3)


def test_waiting_for_what_never_comes_is_no_hang() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(NothingHappensError):
        run(main(), VirtualLoop())


def test_the_last_line_is_json(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    process = subprocess.run(
        [sys.executable, "-m", "sandbox.simulator", "--seeds", "4", "--processes", "2"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    last = json.loads(process.stdout.splitlines()[-1])
    assert (last["seeds"], last["violations"]) == (4, 0)
    assert last["events"] > 100
    assert last["seconds"] > 0
    assert last["scaled_out"] >= last["scaled_in"] >= 0


async def test_a_call_of_aws_that_is_not_simulated_is_refused() -> None:
    world = World(lambda: 0.0, Random(1), (1, 2), (1, 2))
    aws = SimulatedAws(Region(world, Random(1)), cast(Caller, None))
    with pytest.raises(NotImplementedError, match="of AWS is not simulated"):
        await aws.register_document(RESTART)
