"""What comes round goes on after every fault, and each is told in one line."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from remediator.errors import first_line
from remediator.rounds import repeat


@pytest.mark.parametrize(
    ("error", "said", "traced"),
    [
        (TimeoutError(), "TimeoutError", False),  # says nothing, as asyncio's do
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device", False),
        (KeyError("a fault of ours"), "'a fault of ours'", True),
        (ValueError("one\ntwo"), "one", True),
        (ValueError("\ntwo"), "ValueError", True),
    ],
)
async def test_the_next_round_comes_after_a_fault(error: Exception, said: str, traced: bool) -> None:
    again = asyncio.Event()
    faults = [error]

    async def work() -> None:
        if faults:
            raise faults.pop()
        again.set()

    with capture_logs() as logs:
        task = asyncio.create_task(repeat(work, 0, "not done"))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (line,) = logs
    expected: dict[str, Any] = {
        "event": "not done",
        "log_level": "warning",
        "error": said,
        "exc_info": traced,
    }
    assert line == expected | {"exc_info": traced}
    assert first_line(error) == said
