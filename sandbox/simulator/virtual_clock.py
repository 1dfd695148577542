"""An asyncio event loop whose time jumps to the next timer."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

EPOCH: Final = 1_800_000_000.0  # Unix seconds at which every world begins

T = TypeVar("T")


class NothingHappensError(RuntimeError):
    """Every task waits for something that no timer will bring."""


class _Jump:
    """Stands where a selector would: nothing comes from outside, so to wait is to move the clock."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise NothingHappensError
        self._loop.now += timeout
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose `now` (seconds since it began) is moved by waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now

    def _process_events(self, _: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run like `asyncio.run`, on that loop; cancel whatever still runs at the end."""
    try:
        return loop.run_until_complete(main)
    finally:
        unfinished = asyncio.all_tasks(loop)
        for task in unfinished:
            task.cancel()
        with contextlib.suppress(NothingHappensError):
            if unfinished:
                loop.run_until_complete(asyncio.gather(*unfinished, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
