"""Work that comes round again and again, whatever went wrong the time before; and the waits between."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog
from sqlalchemy.exc import SQLAlchemyError

from remediator.errors import first_line

log = structlog.get_logger()

OUTSIDE: Final = (SQLAlchemyError, OSError)  # faults of the store or the network: where we were says nothing


async def repeat(work: Callable[[], Awaitable[object]], interval: float, failed: str) -> NoReturn:
    """Every `interval` seconds, until cancelled. `failed` is the event in the log where it raises."""
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception as error:  # the boundary of each such task: the next round may succeed
            log.warning(failed, error=first_line(error), exc_info=not isinstance(error, OUTSIDE))


async def until_woken(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set, or that long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
