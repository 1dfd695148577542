"""The fast transport where things go wrong: nothing lies, leaks, loops or holds up other bots."""

import asyncio
import gc
import itertools
import re
import resource
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import Store
from exporter.fleet.fleet import Fleet
from exporter.history import past_probes
from exporter.probing.fast_prober import FastProber
from exporter.probing.probe import ProbeResult, Reason, open_session
from exporter.probing.stream_prober import StreamProber
from exporter.settings import Settings
from exporter.targets import Target

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RawBot = Callable[..., Awaitable[str]]
HttpBot = Callable[[dict[str, bytes]], Awaitable[str]]
WaitUntil = Callable[..., Awaitable[None]]
Open = Callable[[Settings], Awaitable[FastProber]]

LIVE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def start(settings: Settings) -> FastProber:
            session = await stack.enter_async_context(open_session())
            prober = FastProber(settings, StreamProber(settings, session), session.resolver)
            stack.push_async_callback(prober.close)
            return prober

        yield start


async def run_probe(prober: FastProber, target: Target) -> ProbeResult | None:
    result: asyncio.Future[ProbeResult | None] = asyncio.get_running_loop().create_future()
    prober.start(target, result.set_result)
    return await result


@pytest.fixture
def threaded_bot() -> Iterator[str]:
    """Run a bot that answers at once, whatever the test's event loop is doing."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


async def test_a_busy_loop_never_makes_a_healthy_bot_look_slow(threaded_bot: str, opened: Open) -> None:
    """The answer lies in the kernel while the loop is stuck, beyond the timeout even."""
    prober = await opened(Settings(timeout=0.4))
    probing = asyncio.ensure_future(run_probe(prober, Target("forge", threaded_bot)))
    await asyncio.sleep(0)  # the request is on its way
    time.sleep(1.0)  # noqa: ASYNC251 - this is the stall
    result = await probing
    assert result is not None
    assert result.health.ok
    assert result.health.seconds < 0.5


@pytest.mark.parametrize("second", ["closes", "resets", "hangs"])
async def test_a_mesh_that_is_lost_again_and_again_ends(raw_bot: RawBot, opened: Open, second: str) -> None:
    requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while request := await reader.readuntil(b"\r\n\r\n"):
            if b" /mesh " in request:
                requests += 1
                if second == "hangs":
                    await reader.read()
                if second == "resets":
                    writer.transport.abort()
                return
            writer.write(LIVE)

    prober = await opened(Settings(timeout=0.5 if second == "hangs" else 10))
    result = await run_probe(prober, Target("forge", await raw_bot(handle)))
    assert result is not None
    assert result.health.ok
    assert result.mesh.reason is (Reason.read_timeout if second == "hangs" else Reason.disconnected)
    assert requests <= 2, "once on the connection used before, once on a new one"


async def serve(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    for part in parts:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.02)  # so that they come apart


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ((b"HTTP/1.1 100 Continue\r\n\r\n", LIVE), None),
        ((LIVE[:9], LIVE[9:40], LIVE[40:]), None),
        ((b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the ", b"end"), None),
        ((LIVE + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra",), None),
        (
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"NOT HEX\r\n"),
            Reason.bad_payload,
        ),
        ((b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,), Reason.bad_payload),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",), Reason.bad_payload),
        ((b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",), Reason.http_status),
        ((b"\x16\x03\x01\x02\x00\x01",), Reason.bad_payload),
    ],
    ids=[
        "continue",
        "in parts",
        "until eof",
        "extra",
        "late broken chunk",
        "endless",
        "two lengths",
        "101",
        "tls",
    ],
)
async def test_odd_answers(
    raw_bot: RawBot, opened: Open, parts: tuple[bytes, ...], reason: Reason | None
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await serve(writer, *parts)

    result = await run_probe(await opened(Settings(timeout=10)), Target("forge", await raw_bot(handle)))
    assert result is not None
    assert result.health.reason is reason


async def test_a_name_is_tried_at_each_of_its_addresses(http_bot: HttpBot, opened: Open) -> None:
    """`localhost` may be ::1 first, where nobody listens."""
    port = (await http_bot({"/health": LIVE, "/mesh": LIVE})).rpartition(":")[2]
    result = await run_probe(await opened(Settings()), Target("forge", f"localhost:{port}"))
    assert result is not None
    assert result.health.ok
    assert result.mesh.ok


async def test_connections_are_kept_between_probes_where_asked_for(raw_bot: RawBot, opened: Open) -> None:
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(6):  # three probes, then this server closes
            await reader.readuntil(b"\r\n\r\n")
            writer.write(LIVE)

    target = Target("forge", await raw_bot(handle))
    prober = await opened(Settings(keep_alive=True))
    for _ in range(6):
        result = await run_probe(prober, target)
        assert result is not None
        assert result.health.ok
        assert result.mesh.ok
    assert connections == 2


@pytest.mark.parametrize("transport", ["fast", "streams"])
@pytest.mark.parametrize("idle", [b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b""])
@pytest.mark.parametrize("when", ["between the probes", "instead of an answer"])
async def test_a_kept_connection_that_the_bot_gave_up_fails_no_probe(
    raw_bot: RawBot, transport: str, idle: bytes, when: str
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(LIVE)
        if when == "instead of an answer":
            await reader.readuntil(b"\r\n\r\n")
        writer.write(idle)
        await writer.drain()

    settings = Settings(keep_alive=True)
    target = Target("forge", await raw_bot(handle))
    async with open_session(keep_alive=60) as session:
        stream = StreamProber(settings, session)
        prober: Any = FastProber(settings, stream, session.resolver) if transport == "fast" else stream
        for _ in range(4):
            result = await run_probe(prober, target)
            assert result is not None
            assert (result.health.ok, result.mesh.ok) == (True, True), result
            await asyncio.sleep(0.05)  # for the bot to give up
        await prober.close()


async def test_a_kept_connection_that_nobody_comes_back_for_is_closed(raw_bot: RawBot, opened: Open) -> None:
    """As of a bot that left the fleet, whose own server may never close it."""
    closed = asyncio.Event()

    async def left(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(LIVE)
        assert await reader.read() == b""
        closed.set()

    async def stays(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(LIVE)

    prober = await opened(Settings(keep_alive=True, interval=0.05))
    await run_probe(prober, Target("left", await raw_bot(left)))
    other = Target("stays", await raw_bot(stays))
    async with asyncio.timeout(20):
        while not closed.is_set():
            await run_probe(prober, other)


async def test_want_of_descriptors_is_no_news_of_a_bot(http_bot: HttpBot, opened: Open) -> None:
    target = Target("forge", await http_bot({"/health": LIVE, "/mesh": LIVE}))
    prober = await opened(Settings())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # and 0, 1 and 2 are taken
    try:
        none_left = await run_probe(prober, target)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert none_left is None
    assert await run_probe(prober, target) is not None


async def test_no_descriptor_leaks_whatever_bots_do(raw_bot: RawBot, opened: Open) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\0" * 1000)
        await reader.read()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    addresses = [await raw_bot(handler) for handler in (close, garbage, hang)]
    addresses += ["127.0.0.1:1", "no-such-host.invalid:80"]
    prober = await opened(Settings(timeout=0.3))

    async def all_of_them(times: int) -> int:
        targets = [Target("forge", address) for address in addresses for _ in range(times)]
        assert all(await asyncio.gather(*(run_probe(prober, target) for target in targets)))
        await asyncio.sleep(0.3)  # for the servers, in this process too, to notice
        gc.collect()
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    await all_of_them(1)
    before = await all_of_them(5)
    assert await all_of_them(20) <= before + 2


async def test_bots_that_hang_do_not_hold_up_others(
    raw_bot: RawBot, http_bot: HttpBot, opened: Open, wait_until: WaitUntil
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    ill, well = await raw_bot(hang), await http_bot({"/health": LIVE, "/mesh": LIVE})
    settings = Settings(interval=0.5, timeout=60)
    store, self_metrics = Store(), SelfMetrics(settings, "test")
    fleet = Fleet(settings, await opened(settings), store, self_metrics, max_in_flight=1000)
    fleet.apply(
        [Target(f"ill-{n}", ill) for n in range(200)] + [Target(f"well-{n}", well) for n in range(20)]
    )

    async def well_probed_twice() -> bool:
        text = b"".join(store.render())
        skipped = self_metrics.registry.get_sample_value("bot_exporter_probes_skipped_total") or 0
        return text.count(b"bot_up{") == 20 and skipped >= 200

    await wait_until(well_probed_twice)
    fleet.stop()
    text = b"".join(store.render())
    assert text.count(b'bot_up{bot="well-') == 20
    assert b"} 0\n" not in b"\n".join(line for line in text.splitlines() if line.startswith(b"bot_up"))


async def test_ten_thousand_bots_dead_at_once_all_read_as_dead(opened: Open, wait_until: WaitUntil) -> None:
    settings = Settings(interval=3, timeout=10)
    store = Store()
    fleet = Fleet(settings, await opened(settings), store, SelfMetrics(settings, "test"), max_in_flight=1000)
    dead = Target("dead", "127.0.0.1:1")
    addresses = [f"127.2.{n // 250}.{n % 250 + 1}:1" for n in range(10_000)]
    fleet.apply(replace(dead, bot=f"bot-{n}", address=address) for n, address in enumerate(addresses))

    async def all_probed() -> bool:
        return all(bot.state.score is not None for bot in fleet)

    await wait_until(all_probed, timeout=90)
    fleet.stop()
    store.render_idle(1e9, limit=1000)
    assert b"".join(store.render()).count(b'reason="connect_refused"') == 20_000


async def test_a_wall_clock_that_steps_changes_timestamps_and_nothing_else(
    http_bot: HttpBot, opened: Open, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back by years and forth by decades between two readings: slots and latencies do not follow."""
    steps = itertools.cycle([1.7e9, 1.0e9, 4.0e9])
    readings: list[float] = []

    def stepping() -> float:
        readings.append(next(steps))
        return readings[-1]

    monkeypatch.setattr("exporter.probing.exchange.time", stepping)
    address = await http_bot({"/health": LIVE, "/mesh": LIVE})
    settings, store = Settings(interval=0.2, timeout=10), Store()
    self_metrics = SelfMetrics(settings, "test")
    fleet = Fleet(settings, await opened(settings), store, self_metrics, max_in_flight=1000)
    started = asyncio.get_running_loop().time()
    fleet.apply([Target("forge", address, template="support")])

    async def probed_often() -> bool:
        return len(readings) >= 7

    await wait_until(probed_often)
    fleet.stop()
    intervals = (asyncio.get_running_loop().time() - started) / settings.interval
    assert len(readings) <= intervals + 1
    bot = fleet.get("forge")
    assert bot is not None
    assert (bot.state.score, bot.state.streak) == (100, 0)
    past = past_probes(bot.history)
    assert {probe.at for probe in past} == {1.7e9, 1.0e9, 4.0e9}
    assert all(0 <= seconds < 10 for probe in past for seconds in (probe.health_seconds, probe.mesh_seconds))
    (last,) = re.findall(rb'bot_probe_last_timestamp_seconds{bot="forge"} (\S+)', b"".join(store.render()))
    assert float(last) in (1.7e9, 1.0e9, 4.0e9)
