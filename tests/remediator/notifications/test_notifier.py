"""Messages to people: what is to be said is said once it can be, in order, and the token to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from remediator.metrics import Metrics
from remediator.notifications import channels as channels_module
from remediator.notifications import notifier as notifier_module
from remediator.notifications.channel import Channel, SendResult
from remediator.notifications.channels import channel_of
from remediator.notifications.notifier import Notifier
from remediator.notifications.telegram import Telegram, read_answer
from remediator.settings import Settings
from remediator.store.store import Store
from sandbox.process.processes import free_port
from sandbox.process.waiting import WaitError, wait_until
from sandbox.stack.telegram import run_telegram
from tests.remediator.conftest import Api, Remediator, World, read_rows

SECRET = "7:telegram-secret"


@dataclass
class MoodyTelegram:
    """A Telegram that gives these statuses, and counts how often it was asked.

    `fields`: what an answer that refuses says beside `ok`.
    """

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    chats: list[str] = field(default_factory=list)
    requests: int = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        status = self.statuses.pop(0) if self.statuses else 200
        message = await request.json()
        if status == 200:
            self.texts.append(message["text"])
            self.chats.append(message["chat_id"])
        fields = {} if status == 200 else self.fields
        return web.json_response({"ok": status == 200, **fields}, status=status)


@pytest.fixture
async def moody() -> AsyncIterator[MoodyTelegram]:
    telegram = MoodyTelegram()
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
    monkeypatch.setattr(notifier_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(notifier_module, "LONGEST_PAUSE", 0.02)


@dataclass
class Bench:
    """A notifier that runs, and its store."""

    store: Store
    notifier: Notifier
    metrics: Metrics

    async def notify(self, *texts: str) -> None:
        """Leave messages in the store, and wake the notifier."""
        for text in texts:
            async with self.store.write() as tx:
                await tx.notify("rec-1", text)
        self.notifier.wake()

    async def waiting(self) -> int:
        """Return how many messages are not sent."""
        async with self.store.read() as tx:
            return len(await tx.unsent())

    async def until_nothing_waits(self) -> None:
        """Wait until all messages are sent or given up."""

        async def is_empty() -> bool:
            return await self.waiting() == 0

        await wait_until(is_empty, what="nothing unsent", every=0.01)


@asynccontextmanager
async def run_notifier(database: Path, to: str | Channel) -> AsyncIterator[Bench]:
    """Run a notifier that sends to that channel, or to the Telegram at that URL."""
    store = await Store.open(f"sqlite:///{database}")
    metrics = Metrics("test")
    async with aiohttp.ClientSession() as session:
        channel = Telegram(to, SecretStr(SECRET), "1") if isinstance(to, str) else to
        notifier = Notifier(store, metrics, session, channel)
        serving = asyncio.create_task(notifier.serve())
        yield Bench(store, notifier, metrics)
        serving.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(serving, return_exceptions=True)
    await store.close()


@pytest.mark.usefixtures("impatient")
async def test_messages_are_said_in_order_once_each(tmp_path: Path, moody: MoodyTelegram) -> None:
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("one", "two", "three")
        await bench.until_nothing_waits()
    assert moody.texts == ["one", "two", "three"]


@pytest.mark.usefixtures("impatient")
async def test_a_telegram_that_is_busy_is_asked_until_it_is_not(tmp_path: Path, moody: MoodyTelegram) -> None:
    """Far longer than a message that it refuses would be tried."""
    moody.statuses = [500, 429, 502, 503] * notifier_module.GIVE_UP_AFTER
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("one", "two")
        await bench.until_nothing_waits()
        sent = bench.metrics.registry.get_sample_value(
            "bot_remediator_notifications_total", {"channel": "telegram", "outcome": "sent"}
        )
        failed = bench.metrics.registry.get_sample_value(
            "bot_remediator_notifications_total", {"channel": "telegram", "outcome": "failed"}
        )
    assert moody.texts == ["one", "two"]
    assert (sent, failed) == (2, 4 * notifier_module.GIVE_UP_AFTER)


@pytest.mark.usefixtures("impatient")
async def test_a_message_that_is_refused_for_ever_holds_up_the_others_for_a_while_only(
    tmp_path: Path, moody: MoodyTelegram
) -> None:
    moody.statuses = [400] * notifier_module.GIVE_UP_AFTER
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("refused", "good")
        await bench.until_nothing_waits()
        async with bench.store.read() as tx:
            events = [entry.event for entry in await tx.audit_trail(bot=None, after=0, limit=10)]
    assert moody.texts == ["good"]
    assert events == ["notification.given_up", "notification.sent"]


async def test_a_message_that_telegram_never_takes_does_not_hold_up_the_next(
    tmp_path: Path, moody: MoodyTelegram
) -> None:
    """It is the message that is refused, so it is given up at once; the trail says why."""
    moody.statuses = [400]
    moody.fields = {"description": "Bad Request: can't parse entities: Unclosed start tag at byte offset 9"}
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("refused", "good")
        await bench.until_nothing_waits()
        async with bench.store.read() as tx:
            trail = await tx.audit_trail(bot=None, after=0, limit=10)
    assert (moody.texts, moody.requests) == (["good"], 2)
    assert [entry.event for entry in trail] == ["notification.given_up", "notification.sent"]
    assert "Unclosed start tag" in str(trail[0])


async def test_a_chat_that_became_a_supergroup_is_followed(tmp_path: Path, moody: MoodyTelegram) -> None:
    moody.statuses = [400]
    moody.fields = {
        "description": "Bad Request: group chat was upgraded to a supergroup chat",
        "parameters": {"migrate_to_chat_id": -1001234567890},
    }
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("one", "two")
        await bench.until_nothing_waits()
        assert isinstance(bench.notifier.channel, Telegram)
        assert bench.notifier.channel.chat_id == "-1001234567890"
    assert (moody.texts, moody.chats) == (["one", "two"], ["-1001234567890"] * 2)


@pytest.mark.usefixtures("impatient")
async def test_telegram_is_left_alone_for_as_long_as_it_says(tmp_path: Path, moody: MoodyTelegram) -> None:
    moody.statuses = [429] * 10
    moody.fields = {"description": "Too Many Requests: retry after 60", "parameters": {"retry_after": 60}}
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("one")

        async def was_refused() -> bool:
            async with bench.store.read() as tx:
                return bool(await tx.unsent()) and (await tx.unsent())[0].tries > 0

        await wait_until(was_refused, what="the first try", every=0.01)
        await bench.notify("two")

        async def was_asked_again() -> bool:
            return moody.requests > 1

        with pytest.raises(WaitError):
            await wait_until(was_asked_again, timeout=0.5, what="a second try", every=0.01)


@dataclass
class Pigeon:
    """A channel that nothing knows but the table of channels."""

    name: ClassVar[str] = "pigeon"
    texts: list[str] = field(default_factory=list)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        return cls()

    async def send(self, session: aiohttp.ClientSession, text: str) -> SendResult:
        self.texts.append(text)
        return SendResult()


async def test_another_channel_is_a_row_of_the_table_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its label in the series is its name; its counters are there before its first message."""
    for module in (channels_module, notifier_module):
        monkeypatch.setattr(module, "CHANNELS", [*channels_module.CHANNELS, Pigeon])
    pigeon = channel_of(Settings.model_validate({}))
    assert isinstance(pigeon, Pigeon)
    async with run_notifier(tmp_path / "n.db", pigeon) as bench:

        def counted(outcome: str) -> float | None:
            labels = {"channel": "pigeon", "outcome": outcome}
            return bench.metrics.registry.get_sample_value("bot_remediator_notifications_total", labels)

        assert (counted("sent"), counted("failed")) == (0, 0)
        await bench.notify("one")
        await bench.until_nothing_waits()
        assert (counted("sent"), counted("failed")) == (1, 0)
    assert pigeon.texts == ["one"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "no",
        {},
        {"description": 7, "parameters": "no"},
        {"parameters": {"retry_after": "soon", "migrate_to_chat_id": "x"}},
        {"parameters": {"retry_after": -1, "migrate_to_chat_id": True}},
    ],
)
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 429, 500, 502])
def test_an_odd_answer_is_an_error_and_no_more(status: int, answer: object) -> None:
    result = read_answer(status, answer)
    assert result.error.startswith(f"Telegram answered {status}")
    assert result.refused == (status < 500 and status != 429)
    assert (result.unsendable, result.retry_after, result.new_chat_id) == (False, 0.0, "")


async def test_new_messages_do_not_hurry_a_telegram_that_is_away(
    tmp_path: Path, moody: MoodyTelegram
) -> None:
    """Else twenty of them in a minute would use up every try of the first."""
    moody.statuses = [400] * 100
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("first")

        async def has_tried() -> bool:
            return moody.requests >= 1

        await wait_until(has_tried, what="the first try")
        for number in range(20):
            await bench.notify(f"more {number}")
        assert moody.requests <= 2
        assert await bench.waiting() > 0


async def test_a_long_message_is_cut_to_what_telegram_takes(tmp_path: Path, moody: MoodyTelegram) -> None:
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:
        await bench.notify("x" * 5000)
        await bench.until_nothing_waits()
    assert moody.texts == ["x" * 4096]


async def test_it_ends_though_it_is_woken_in_the_same_moment(tmp_path: Path, moody: MoodyTelegram) -> None:
    """asyncio.wait_for of Python 3.11 forgets that it was cancelled where what it waits for has just come."""
    async with run_notifier(tmp_path / "n.db", moody.url) as bench:

        async def it_sleeps() -> bool:
            return bool(bench.notifier._wake._waiters)

        await wait_until(it_sleeps, what="a notifier that waits", every=0.01)
        bench.notifier.wake()


async def test_what_could_not_be_said_is_said_by_the_next_process_and_the_token_is_in_no_log(
    run_remediator: Callable[..., AbstractAsyncContextManager[Remediator]], world: World
) -> None:
    bot = world.name()
    chat: Any = {"telegram_token": SECRET, "telegram_chat_id": "1", "log_level": "debug"}
    async with run_remediator(
        world.cloud, telegram_api_url=f"http://127.0.0.1:{free_port()}", **chat
    ) as first:
        await first.api.deployed(bot)

        async def tried() -> bool:
            return bool(first.rows("select 1 from notifications where tries > 0 and sent_at is null"))

        await wait_until(tried, what="a try")
        await first.kill9()
        assert "Telegram could not be reached" in first.log()
    async with (
        run_telegram() as telegram,
        run_remediator(world.cloud, telegram_api_url=telegram.url, **chat) as second,
    ):
        await wait_until(lambda: all_sent(second), what="the message marked as sent")
        (message,) = telegram.messages
        assert message.token == SECRET
        assert message.text.startswith(f"✅ {bot} is deployed")
        assert "telegram-secret" not in second.log()


async def all_sent(remediator: Remediator) -> bool:
    return remediator.rows("select count(*) from notifications where sent_at is null") == [(0,)]


async def test_without_a_telegram_a_message_ends_in_the_log(app: Api, world: World, tmp_path: Path) -> None:
    await app.deployed(world.name())

    async def done() -> bool:
        return read_rows(
            tmp_path / "remediator.db", "select count(*) from notifications where sent_at is null"
        ) == [(0,)]

    await wait_until(done, what="the message dealt with")
