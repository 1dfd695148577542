import asyncio

import pytest

from remediator.monitoring import cached
from remediator.monitoring.cached import Cached


class Source:
    """Counts how often it is read; each read waits until it is let go."""

    def __init__(self) -> None:
        self.reads = 0
        self.let_go = asyncio.Event()

    async def read(self) -> int:
        self.reads += 1
        await self.let_go.wait()
        return self.reads


async def test_all_who_ask_while_it_is_read_share_the_answer() -> None:
    source = Source()
    answer = Cached(source.read)
    assert answer.latest is None
    waiting = [asyncio.create_task(answer.get()) for _ in range(10)]
    await asyncio.sleep(0)
    source.let_go.set()
    assert await asyncio.gather(*waiting) == [1] * 10
    assert answer.latest == 1


async def test_an_answer_that_is_too_old_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    source.let_go.set()
    answer = Cached(source.read)
    assert [await answer.get(), await answer.get()] == [1, 1]
    monkeypatch.setattr(cached, "MAX_AGE", -1.0)
    assert await answer.get() == 2


async def test_an_answer_of_nothing_is_an_answer() -> None:
    source = Source()
    source.let_go.set()

    async def read() -> list[int]:
        await source.read()
        return []

    answer = Cached(read)
    assert [await answer.get(), await answer.get()] == [[], []]
    assert source.reads == 1


async def test_a_read_that_fails_is_tried_again_by_the_next_who_asks() -> None:
    failures = [OSError("away")]

    async def read() -> str:
        if failures:
            raise failures.pop()
        return "there"

    answer = Cached(read)
    with pytest.raises(OSError, match="away"):
        await answer.get()
    assert await answer.get() == "there"
