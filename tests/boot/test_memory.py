"""A bot in the memory of the smallest type: that of a t3.micro, less what its system takes, with its swap."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from sandbox.process.gateway import PLANTED, open_to_all, run_gateway
from sandbox.process.openclaw import install
from sandbox.process.waiting import wait_until
from sandbox.stack.model_provider import run_model_provider
from sandbox.stack.telegram import run_telegram

GROUPS: Final = Path("/sys/fs/cgroup/memory")
LIMIT: Final = 900 * 1024**2  # bytes: MemoryMax=90% of a t3.micro's 1 GiB
SWAP: Final = 2 * 1024**3  # bytes, as the user data of that type asks for
TURNS: Final = 3
PATIENCE: Final = 300.0  # seconds for an answer from a bot that swaps


@contextlib.contextmanager
def swapping(swap: Path) -> Iterator[None]:
    """Have the kernel swap to a new file until the block ends."""
    subprocess.run(["fallocate", "-l", str(SWAP), str(swap)], check=True)
    swap.chmod(0o600)
    subprocess.run(["mkswap", "-q", str(swap)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["swapon", str(swap)], check=True)
    try:
        yield
    finally:
        subprocess.run(["swapoff", str(swap)], check=True)


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Path]:
    """Make a control group with the limit, and swap for it; both are gone afterwards."""
    if not (GROUPS / "memory.limit_in_bytes").exists():
        pytest.skip("no memory controller of cgroup v1 is here")
    group = GROUPS / f"bot-{uuid.uuid4()}"

    async def gone() -> bool:
        with contextlib.suppress(OSError):  # a process that is still dying is in it
            group.rmdir()
        return not group.exists()

    with swapping(tmp_path / "swap"):
        group.mkdir()
        try:
            (group / "memory.limit_in_bytes").write_text(str(LIMIT))
            yield group
        finally:
            await wait_until(gone, what="the end of the control group")


@pytest.mark.timeout(1500)
async def test_a_bot_answers_in_the_memory_of_a_t3_micro(
    group: Path, tmp_path: Path, report: dict[str, Any]
) -> None:
    """Turn after turn, and the kernel kills nothing; some of it is in swap."""
    enter = ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]
    async with run_telegram() as telegram, run_model_provider() as models:
        content = open_to_all(models.url)
        key = {"ANTHROPIC_API_KEY": "planted"}
        async with run_gateway(
            install(), tmp_path, content, telegram=telegram.url, environment=key, wrapper=enter
        ):
            for turn in range(1, TURNS + 1):
                telegram.write(PLANTED, f"Are you there, for the {turn}. time?")

                async def answered(turn: int = turn) -> bool:
                    return len(telegram.messages) >= turn

                await wait_until(answered, PATIENCE, f"the answer of turn {turn}")
            swapped = statistic(group, "swap")
            assert "oom_kill 0" in (group / "memory.oom_control").read_text()
            assert int((group / "memory.max_usage_in_bytes").read_text()) <= LIMIT
            assert swapped > 0
            report["turns_in_900_mb"], report["swapped_mb"] = TURNS, round(swapped / 1024**2)


def statistic(group: Path, name: str) -> int:
    """Return a number of memory.stat, in bytes."""
    lines = (group / "memory.stat").read_text().splitlines()
    return next(int(number) for key, number in (line.split() for line in lines) if key == name)
