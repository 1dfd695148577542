"""Periodic work goes on after every fault, and each is a line in the log."""

import asyncio

import pytest
from structlog.testing import capture_logs

from remediator.errors import first_line
from remediator.periodic import run_every


@pytest.mark.parametrize(
    ("error", "text", "traced"),
    [
        (TimeoutError(), "TimeoutError", False),  # says nothing, as asyncio's do
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device", False),
        (KeyError("a fault of ours"), "'a fault of ours'", True),
        (ValueError("one\ntwo"), "one", True),
        (ValueError("\ntwo"), "ValueError", True),
    ],
)
async def test_the_work_is_done_again_after_a_fault(error: Exception, text: str, traced: bool) -> None:
    again = asyncio.Event()
    faults = [error]

    async def work() -> None:
        if faults:
            raise faults.pop()
        again.set()

    with capture_logs() as logs:
        task = asyncio.create_task(run_every(work, 0, "not done"))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    (line,) = logs
    assert line == {"event": "not done", "log_level": "warning", "error": text, "exc_info": traced}
    assert first_line(error) == text
