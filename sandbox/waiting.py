"""Waiting for a condition, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class WaitError(TimeoutError):
    """It did not come true in time. The message says what, and the last value seen."""


async def wait_until(
    condition: Callable[[], Awaitable[T | None]], timeout: float = 20, what: str = "", every: float = 0.05
) -> T:
    """The condition's first true value. Times are in seconds."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__qualname__", repr(condition))
            raise WaitError(f"not within {timeout:g} s: {name} (last: {value!r})")
        await asyncio.sleep(every)
    return value
