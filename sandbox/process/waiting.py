"""Waiting for a condition, with a bound."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class WaitError(TimeoutError):
    """A condition did not come true in time. The message names it, and its last value."""


async def wait_until(
    condition: Callable[[], Awaitable[T | None]], timeout: float = 20, what: str = "", every: float = 0.05
) -> T:
    """Return the condition's first true value; WaitError after `timeout`. Times are in seconds."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        if time.monotonic() > deadline:
            name = what or getattr(condition, "__qualname__", repr(condition))
            raise WaitError(f"not within {timeout:g} s: {name} (last: {value!r})")
        await asyncio.sleep(every)
    return value
