"""Names: asked of name servers on loopback, once for all callers, and forgotten in time."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from exporter.probing.fast_prober import FastProber
from exporter.probing.probe import OwnFaultError, open_session, probe
from exporter.probing.resolver import OWN_FAULT, SILENT, Address, Resolver, literal
from exporter.probing.stream_prober import StreamProber
from exporter.result import ProbeResult, Reason
from exporter.settings import Settings
from exporter.targets import Target

WaitUntil = Callable[..., Awaitable[None]]
LOOPBACK = ((socket.AF_INET, ("127.0.0.1", 80)),)


class Dns(asyncio.DatagramProtocol):
    """A name server: names that begin with gone are not there, those in silent.example have no answer."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.silent = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    @property
    def address(self) -> str:
        host, port = self.transport.get_extra_info("sockname")
        return f"{host}:{port}"

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        labels, at = [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name, (kind,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
        if name and kind == 1:
            self.queries.append(name)
        if self.silent or name.endswith("silent.example"):
            return
        answers = 1 if kind == 1 and not name.startswith("gone") else 0
        code = 3 if name.startswith("gone") else 0
        reply = data[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, answers, 0, 0) + data[12 : at + 5]
        if answers:
            reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + bytes([127, 0, 0, 1])
        self.transport.sendto(reply, address)


@pytest.fixture
async def dns() -> AsyncIterator[Dns]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        Dns, local_addr=("127.0.0.1", 0)
    )
    yield server
    transport.close()


@pytest.fixture
async def resolver(dns: Dns) -> AsyncIterator[Resolver]:
    resolver = Resolver(timeout=0.8, servers=[dns.address])
    yield resolver
    await resolver.close()


async def test_a_name_is_looked_up_once_for_all_callers(dns: Dns, resolver: Resolver) -> None:
    answers = await asyncio.gather(*(resolver.lookup("bots.example", 80) for _ in range(50)))
    assert set(answers) == {(LOOPBACK, "")}
    assert dns.queries == ["bots.example"]


@pytest.mark.parametrize("host", ["bots.example", "gone.example"])
async def test_an_answer_is_kept_for_a_while(dns: Dns, resolver: Resolver, host: str) -> None:
    first = await resolver.lookup(host, 80)
    asked = list(dns.queries)
    again: list[tuple[tuple[Address, ...], str]] = []
    resolver.resolve(host, 80, lambda *answer: again.append(answer))
    assert again == [first]
    assert bool(first[0]) != bool(first[1])
    assert dns.queries == asked


async def test_a_name_is_asked_for_again_once_its_answer_is_old(dns: Dns, wait_until: WaitUntil) -> None:
    resolver = Resolver(ttl=0.05, servers=[dns.address])

    async def queried_again() -> bool:
        await resolver.lookup("bots.example", 80)
        return len(dns.queries) >= 2

    await wait_until(queried_again)
    await resolver.close()


async def test_a_silent_zone_holds_up_no_other(dns: Dns, resolver: Resolver) -> None:
    """Of getaddrinfo two such names were enough to keep every other bot from being probed."""
    silent = [asyncio.ensure_future(resolver.lookup(f"b{n}.silent.example", 80)) for n in range(50)]
    await asyncio.sleep(0)
    assert await resolver.lookup("well.other", 80) == (LOOPBACK, "")
    assert not any(task.done() for task in silent)
    assert len({name for name in dns.queries if "silent" in name}) <= 16, "a zone has its share"
    for task in silent:
        task.cancel()


async def test_a_name_nobody_answers_for_is_the_bots_trouble_while_the_server_answers_others(
    resolver: Resolver,
) -> None:
    assert await resolver.lookup("one.silent.example", 80) == ((), SILENT)


async def test_a_server_that_answers_nobody_is_our_trouble(dns: Dns, resolver: Resolver) -> None:
    dns.silent = True
    assert await resolver.lookup("well.example", 80) == ((), OWN_FAULT)


async def test_nobody_at_the_servers_address_is_our_trouble() -> None:
    resolver = Resolver(timeout=0.8, servers=["127.0.0.1:1"])
    assert await resolver.lookup("well.example", 80) == ((), OWN_FAULT)
    await resolver.close()


async def test_dns_that_is_down_is_no_verdict_on_a_bot_and_one_by_address_is_probed(
    dns: Dns, raw_bot: Callable[..., Awaitable[str]]
) -> None:
    dns.silent = True

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nok")
        await writer.drain()

    named, by_address = Target("named", "well.example:80"), Target("other", await raw_bot(answer))
    settings = Settings(timeout=1)
    async with open_session(resolver=Resolver(timeout=0.8, servers=[dns.address])) as session:
        with pytest.raises(OwnFaultError, match=r"well\.example"):
            await probe(session, named, timeout=1)
        stream = StreamProber(settings, session)
        for prober in (FastProber(settings, stream, session.resolver), stream):
            results: list[asyncio.Future[ProbeResult | None]] = []
            for target in (named, by_address):
                results.append(asyncio.get_running_loop().create_future())
                prober.start(target, results[-1].set_result)
            no_news, well = await asyncio.gather(*results)
            assert no_news is None
            assert well is not None
            assert well.health.ok


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_every_address_of_a_name_is_tried_within_the_timeout(scheme: str) -> None:
    """The first connects to nobody and never says so: a full backlog, as of a firewall that drops."""
    with socket.socket() as full, socket.socket() as filler, socket.socket() as other:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        for waiting in (filler, other):
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))

        class Two(Resolver):
            def resolve(self, host: str, port: int, resolved: Any) -> None:
                resolved(tuple((socket.AF_INET, (f"127.0.0.{n}", port)) for n in (1, 2)), "")

        settings = Settings(timeout=1)
        async with open_session(resolver=Two()) as session:
            stream = StreamProber(settings, session)
            target = Target("bot", f"two.example:{port}", scheme=scheme)
            for prober in (FastProber(settings, stream, session.resolver), stream):
                result: asyncio.Future[ProbeResult | None] = asyncio.get_running_loop().create_future()
                prober.start(target, result.set_result)
                probed = await result
                assert probed is not None
                assert probed.health.reason is Reason.connect_refused, "of the second"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_needs_no_server(host: str) -> None:
    address = literal(host, 80)
    assert address is not None
    assert address[1] == (host.strip("[]"), 80)


@pytest.mark.parametrize("host", ["bots.example", "127.1", "1.2.3.4.5", "256.0.0.1"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host, 80) is None
