"""Messages to people: what is to be said is said once it can be, in order, and the token to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from remediator import notify
from remediator.metrics import Metrics
from remediator.notify import Notifier, Telegram
from remediator.store import Store
from sandbox.processes import free_port
from sandbox.telegram import run_telegram
from sandbox.waiting import wait_until
from tests.remediator.conftest import Api, Remediator, World, read_rows

SECRET = "7:telegram-secret"


@dataclass
class Moody:
    """A Telegram that answers as it was told to, and counts how often it was asked."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    asked: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.texts.append((await request.json())["text"])
        return web.json_response({"ok": status == 200}, status=status)


@pytest.fixture
async def moody() -> AsyncIterator[Moody]:
    telegram = Moody()
    app = web.Application()
    app.router.add_post("/bot{token}/sendMessage", telegram.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    telegram.url = f"http://{host}:{port}"
    yield telegram
    await runner.cleanup()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(notify, "LONGEST_PAUSE", 0.02)


@dataclass
class Told:
    store: Store
    notifier: Notifier
    metrics: Metrics

    async def say(self, *texts: str) -> None:
        for text in texts:
            async with self.store.write() as tx:
                await tx.notify("rec-1", text)
        self.notifier.wake()

    async def waiting(self) -> int:
        async with self.store.read() as tx:
            return len(await tx.unsent())

    async def until_nothing_waits(self) -> None:
        async def nothing() -> bool:
            return await self.waiting() == 0

        await wait_until(nothing, what="nothing unsent", every=0.01)


@asynccontextmanager
async def telling(database: Path, url: str) -> AsyncIterator[Told]:
    store = await Store.open(f"sqlite+aiosqlite:///{database}")
    metrics = Metrics("test")
    async with aiohttp.ClientSession() as session:
        telegram = Telegram(url, SecretStr(SECRET), "1")
        notifier = Notifier(store, metrics, session, telegram)
        serving = asyncio.create_task(notifier.serve())
        yield Told(store, notifier, metrics)
        serving.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(serving, return_exceptions=True)
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_messages_are_said_in_order_once_each(tmp_path: Path, moody: Moody) -> None:
    async with telling(tmp_path / "n.db", moody.url) as told:
        await told.say("one", "two", "three")
        await told.until_nothing_waits()
    assert moody.texts == ["one", "two", "three"]


@pytest.mark.usefixtures("impatient")
async def test_a_telegram_that_is_busy_is_asked_until_it_is_not(tmp_path: Path, moody: Moody) -> None:
    """Far longer than a message that it refuses would be tried."""
    moody.statuses = [500, 429, 502, 503] * notify.GIVE_UP_AFTER
    async with telling(tmp_path / "n.db", moody.url) as told:
        await told.say("one", "two")
        await told.until_nothing_waits()
        sent = told.metrics.registry.get_sample_value(
            "bot_remediator_notifications_total", {"channel": "telegram", "outcome": "sent"}
        )
        failed = told.metrics.registry.get_sample_value(
            "bot_remediator_notifications_total", {"channel": "telegram", "outcome": "failed"}
        )
    assert moody.texts == ["one", "two"]
    assert (sent, failed) == (2, 4 * notify.GIVE_UP_AFTER)


@pytest.mark.usefixtures("impatient")
async def test_a_message_that_is_refused_for_ever_holds_up_the_others_for_a_while_only(
    tmp_path: Path, moody: Moody
) -> None:
    moody.statuses = [400] * notify.GIVE_UP_AFTER
    async with telling(tmp_path / "n.db", moody.url) as told:
        await told.say("refused", "good")
        await told.until_nothing_waits()
        async with told.store.read() as tx:
            events = [entry.event for entry in await tx.audit_trail(bot=None, after=0, limit=10)]
    assert moody.texts == ["good"]
    assert events == ["notification.given_up", "notification.sent"]


async def test_new_messages_do_not_hurry_a_telegram_that_is_away(tmp_path: Path, moody: Moody) -> None:
    """Else twenty of them in a minute would use up every try of the first."""
    moody.statuses = [400] * 100
    async with telling(tmp_path / "n.db", moody.url) as told:
        await told.say("first")

        async def asked() -> bool:
            return moody.asked >= 1

        await wait_until(asked, what="the first try")
        for number in range(20):
            await told.say(f"more {number}")
        assert moody.asked <= 2
        assert await told.waiting() > 0


async def test_a_long_message_is_cut_to_what_telegram_takes(tmp_path: Path, moody: Moody) -> None:
    async with telling(tmp_path / "n.db", moody.url) as told:
        await told.say("x" * 5000)
        await told.until_nothing_waits()
    assert moody.texts == ["x" * 4096]


async def test_it_ends_though_it_is_woken_in_the_same_moment(tmp_path: Path, moody: Moody) -> None:
    """asyncio.wait_for of Python 3.11 forgets that it was cancelled where what it waits for has just come."""
    async with telling(tmp_path / "n.db", moody.url) as told:

        async def it_sleeps() -> bool:
            return bool(told.notifier._wake._waiters)

        await wait_until(it_sleeps, what="a notifier that waits", every=0.01)
        told.notifier.wake()


async def test_what_could_not_be_said_is_said_by_the_next_process_and_the_token_is_in_no_log(
    run_remediator: Callable[..., AbstractAsyncContextManager[Remediator]], world: World
) -> None:
    bot = world.name()
    heard: Any = {"telegram_token": SECRET, "telegram_chat_id": "1", "log_level": "debug"}
    async with run_remediator(
        world.cloud, telegram_api_url=f"http://127.0.0.1:{free_port()}", **heard
    ) as first:
        await first.api.deployed(bot)

        async def tried() -> bool:
            return bool(first.rows("select 1 from notifications where tries > 0 and sent_at is null"))

        await wait_until(tried, what="a try")
        await first.kill9()
        assert "Telegram could not be reached" in first.log()
    async with (
        run_telegram() as telegram,
        run_remediator(world.cloud, telegram_api_url=telegram.url, **heard) as second,
    ):
        await wait_until(lambda: sent(second), what="the message marked as sent")
        (message,) = telegram.messages
        assert message.token == SECRET
        assert message.text.startswith(f"✅ {bot} is deployed")
        assert "telegram-secret" not in second.log()


async def sent(remediator: Remediator) -> bool:
    return remediator.rows("select count(*) from notifications where sent_at is null") == [(0,)]


async def test_without_a_telegram_a_message_ends_in_the_log(app: Api, world: World, tmp_path: Path) -> None:
    await app.deployed(world.name())

    async def done() -> bool:
        return read_rows(
            tmp_path / "remediator.db", "select count(*) from notifications where sent_at is null"
        ) == [(0,)]

    await wait_until(done, what="the message dealt with")
