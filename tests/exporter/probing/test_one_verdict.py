"""One verdict on an answer, by every transport and every caller: raw servers, with and without TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import Store
from exporter.fleet.fleet import Fleet
from exporter.probing.fast_prober import FastProber
from exporter.probing.probe import Session, open_session
from exporter.probing.prober import Prober
from exporter.probing.stream_prober import StreamProber
from exporter.result import ProbeResult
from exporter.settings import Settings
from exporter.targets import Target
from exporter.web.server import Server
from remediator.monitoring.prober import Prober as RemediatorsProber
from tests.exporter.conftest import make_certificate
from tests.exporter.probing.answers import ANSWERS, NUMBERED, Answer

Addresses = tuple[str, str]
SETTINGS = Settings(timeout=20)


@pytest.fixture
async def bots(tmp_path: Path) -> AsyncIterator[tuple[Addresses, ssl.SSLContext]]:
    """Run two bots that answer each path with the odd answer of its number, plain and over TLS."""
    raw, writers = dict(NUMBERED), list[asyncio.StreamWriter]()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            if answer := raw[request.split(b" ")[1].decode()].raw:  # of nothing TLS would wait for ever
                writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all is sent
                writer.write(answer)
                await writer.drain()
            writer.close()
        writers.append(writer)

    tls = make_certificate(tmp_path, "127.0.0.1")
    trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    servers = [await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context) for context in (None, tls)]
    plain, secure = (f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
    yield (plain, secure), trusted
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0.01)  # for the transports to close


async def started(prober: Prober, target: Target) -> ProbeResult:
    result: asyncio.Future[ProbeResult | None] = asyncio.get_running_loop().create_future()
    prober.start(target, result.set_result)
    done = await result
    assert done is not None
    return done


async def page_of(session: Session, target: Target) -> str:
    """Return what /probe?debug=true says of the steps of /health."""
    store, own = Store(), SelfMetrics(SETTINGS, "test")
    prober: Any = None  # nothing is probed in its turn
    fleet = Fleet(SETTINGS, prober, store, own, max_in_flight=1)
    fleet.apply([target])
    fleet.stop()
    server = Server(SETTINGS, session, fleet, store, own, reloader=prober)

    class Request:
        query = {"bot": target.bot, "debug": "true"}  # noqa: RUF012 - as aiohttp has it

    answer: Any = await server._probe(Request())  # type: ignore[arg-type]
    text: str = answer.text
    return text


Ask = Callable[[Answer, str], Awaitable[list[str]]]


@pytest.fixture
async def ask(bots: tuple[Addresses, ssl.SSLContext]) -> AsyncIterator[Ask]:
    """Probe a path in every way that there is; gives each verdict as text."""
    (plain, secure), trusted = bots
    async with open_session(tls=trusted) as session:
        stream = StreamProber(SETTINGS, session)
        fast = FastProber(SETTINGS, stream, session.resolver)
        remediator = RemediatorsProber(session, timeout=20, interval=1, needed=1)

        async def every_verdict(answer: Answer, path: str) -> list[str]:
            targets = [
                Target("bot", address, scheme=scheme, health_path=path, mesh_path=path)
                for scheme, address in (("http", plain), ("https", secure))
            ]
            verdicts = []
            for prober, target in ((fast, targets[0]), (stream, targets[0]), (fast, targets[1])):
                result = await started(prober, target)
                verdicts += [f"{end.reason}: {end.detail}" for end in (result.health, result.mesh)]
            for target in targets:
                observation = await remediator.probe_once(target)
                verdicts.append(
                    "None: " if observation.healthy else observation.detail.removeprefix("/health: ")
                )
                lines = (await page_of(session, target)).splitlines()
                (step, *_) = (line for line in lines if line.endswith("  ok") or "ms  failed: " in line)
                verdicts.append("None: " if step.endswith("ok") else step.partition("failed: ")[2])
            return verdicts

        yield every_verdict
        await fast.close()


@pytest.mark.parametrize(("path", "answer"), NUMBERED, ids=[answer.name for answer in ANSWERS])
async def test_every_transport_and_every_caller_reach_the_one_verdict(
    ask: Ask, path: str, answer: Answer
) -> None:
    verdicts = await ask(answer, path)
    assert len(verdicts) == 10
    assert verdicts == [verdicts[0]] * 10, "one verdict, in the same words"
    reason, _, detail = verdicts[0].partition(": ")
    assert reason == str(answer.verdict)
    assert answer.says in detail
    assert bool(detail) == (answer.verdict is not None)


def test_there_are_many_odd_answers_and_no_two_of_a_name() -> None:
    assert len(ANSWERS) >= 100
    assert len({answer.name for answer in ANSWERS}) == len(ANSWERS)


@pytest.mark.parametrize("content", ["OK", "<html>", "[1]", "", "{broken"])
async def test_a_bot_that_promises_json_is_judged_by_it(raw_bot: Any, content: str) -> None:
    """By `__expect__: json`, as of one that has a web page for every unknown path."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + content.encode())
        await writer.drain()

    address = await raw_bot(handle)
    async with open_session() as session:
        stream = StreamProber(SETTINGS, session)
        for prober in (FastProber(SETTINGS, stream, session.resolver), stream):
            for expects_json in (True, False):
                result = await started(prober, Target("bot", address, expects_json=expects_json))
                assert result.health.ok != expects_json
                assert result.health.reason == ("bad_payload" if expects_json else None)
