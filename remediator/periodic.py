"""Work that is repeated for ever, whatever went wrong the time before; and the waits between."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from remediator.errors import ExternalError, first_line

log = structlog.get_logger()

BACKOFF: Final = (0.5, 1, 2, 4, 8)  # seconds between tries of what is away or busy, such as AWS


async def run_every(work: Callable[[], Awaitable[object]], interval: float, failed: str) -> NoReturn:
    """Do the work every `interval` seconds until cancelled. `failed`: the log's event where it raises."""
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception as error:  # the boundary of each such task: the next time it may succeed
            log.warning(
                failed, error=first_line(error), exc_info=not isinstance(error, ExternalError | OSError)
            )


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or that long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
