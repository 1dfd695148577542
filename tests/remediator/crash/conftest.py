"""Lives of a remediator that end at a write; tests/remediator/crash/lives.py says how."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remediator import runtime
from remediator.aws.aws import Aws
from remediator.engine.engine import Engine
from remediator.store.errors import StoreUnavailableError
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from tests.remediator.conftest import World
from tests.remediator.crash.lives import Life, Lives, is_housekeeping


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Life]:
    """Return the lives so far. The last one is the present one; it is asked at every write of any store."""
    real, stop, lives = Store.write, Engine.stop, [Life()]

    @asynccontextmanager
    async def write(store: Store) -> AsyncIterator[Transaction]:
        life = lives[-1]
        if life.gone:
            raise StoreUnavailableError("the dead give nothing back")
        if life.over.is_set():
            life.die()
        counts = not is_housekeeping()
        life.left -= counts
        async with real(store) as tx:
            yield tx
            if counts and life.left <= 0 and life.when == "before the commit":
                life.die()
        if counts and life.left <= 0:
            life.die()

    async def leave(engine: Engine) -> None:
        lives[-1].gone = True
        await stop(engine)

    monkeypatch.setattr(Store, "write", write)
    monkeypatch.setattr(Engine, "stop", leave)
    return lives


@pytest.fixture
def make_lives(
    world: World, tmp_path: Path, lives: list[Life], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Lives]:
    aws = Aws(region="us-west-1", endpoint_url=world.cloud.endpoint_url, concurrency=20)
    monkeypatch.setattr(runtime, "Aws", lambda **_: aws)
    return lambda **settings: Lives(world, tmp_path / "r.db", lives, settings)
