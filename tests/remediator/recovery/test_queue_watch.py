"""Looks at queues: how often, how many at once, of whom, and what is kept; channels are this test's own."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.model import Run
from remediator.recovery import queue_watch
from remediator.recovery.channels import ChannelKind
from remediator.recovery.queue_watch import QueueWatch, _delay, last_report
from remediator.recovery.queues import Queue, QueueAnswer
from remediator.settings import Settings
from sandbox.simulator.memory_store import MemoryStore
from tests.remediator.recovery.test_census import bot, registry


@dataclass
class Channel:
    """A service of channels, and the parameters that hold the tokens for it."""

    answers: dict[str, QueueAnswer] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most: int = 0

    async def secret(self, name: str) -> SecretStr | None:
        if name.startswith("none"):
            return None
        if name.startswith("away"):
            raise AwsError("unavailable", "GetParameter", "", "no answer")
        return SecretStr(name)

    async def ask(self, _: Any, url: str, token: SecretStr) -> QueueAnswer:
        assert url == "https://api.telegram.org"
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        name = token.get_secret_value()
        self.asked[name] += 1
        return self.answers.get(name, QueueAnswer(1))

    def watch(self, store: MemoryStore, **changes: Any) -> QueueWatch:
        settings = Settings(**{"queue_interval": 60, "queue_concurrency": 2, **changes})
        kind = ChannelKind("telegram", str, lambda settings: settings.telegram_api_url, self.ask)
        return QueueWatch(store, cast(Aws, self), cast(Any, None), settings, [kind])


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every bot have its turn at once."""
    monkeypatch.setattr(queue_watch, "_delay", lambda *_: 0.0)


async def report(store: MemoryStore) -> dict[str, Any]:
    async with store.read() as tx:
        return {name: dict(queues) for name, queues in (await last_report(tx)).items()}


async def test_each_bot_is_asked_once_a_pass_and_no_more_at_once_than_is_set() -> None:
    channel, names = Channel(), [f"b{number}" for number in range(9)]
    store = await registry(*map(bot, names))
    watch = channel.watch(store)
    for count in range(1, 4):
        await watch.look_at_all()
        assert channel.asked == dict.fromkeys(names, count)
        assert {len(queues["telegram"].pending) for queues in (await report(store)).values()} == {count}
    assert channel.most == 2
    assert all(queues["telegram"].stalled for queues in (await report(store)).values())


async def test_only_bots_that_are_to_hear_are_asked_and_one_that_is_recovered_is_among_them() -> None:
    bots = [bot("well"), bot("ill"), bot("moving"), bot("paused"), bot("new", state="deploying"), bot("none")]
    channel, store = Channel(), await registry(*bots)
    async with store.write() as tx:
        for name, kind in (("ill", "recover"), ("moving", "redeploy")):
            await tx.add_run(Run.begin(kind, bot=name, reason="", at=tx.now))  # type: ignore[arg-type]
        hold = {"scope": "bot", "name": "paused", "reason": "work", "actor": "ann"}
        await tx.add_hold(**hold, starts_at=0.0, ends_at=None)
    await channel.watch(store).look_at_all()
    assert set(channel.asked) == {"well", "ill"}
    assert set(await report(store)) == {"well", "ill"}


async def test_no_answer_leaves_what_is_known_and_a_refused_token_is_its_own_answer() -> None:
    channel, store = Channel(), await registry(bot("forge"), bot("away"))
    watch = channel.watch(store)
    look = watch.look

    async def now(name: str, _: float = 0) -> Any:
        return await look(name)

    for answer in (QueueAnswer(4), QueueAnswer(problem="no answer"), QueueAnswer(refused=True)):
        channel.answers["forge"] = answer
        async with store.write() as tx:
            await watch._record(tx, {name: await now(name) for name in ("forge", "away")})
        (queue,) = (await report(store))["forge"].values()
        assert isinstance(queue, Queue)
        assert (queue.pending, queue.refused) == (((4,), False) if not answer.refused else ((), True))
        assert "away" not in await report(store)


async def test_an_answer_is_used_again_as_long_as_who_asks_says() -> None:
    channel, store = Channel(), await registry(bot("forge"))
    watch = channel.watch(store)
    assert await watch.look("forge", 60) is await watch.look("forge", 60)
    await watch.look("forge")
    assert channel.asked["forge"] == 2
    assert await channel.watch(store, queue_looks=False).look("forge") == {}


def test_a_bot_has_its_turn_at_about_the_same_time_in_each_pass() -> None:
    turns = {name: [_delay(name, 100) for _ in range(9)] for name in (f"b{number}" for number in range(200))}
    assert all(0 <= turn <= 100 for of in turns.values() for turn in of)
    assert all(max(of) - min(of) <= 10 for of in turns.values())
    assert max(min(of) for of in turns.values()) > 75
    assert min(max(of) for of in turns.values()) < 25
