"""Names: looked up off the loop, once for all who ask, and forgotten in time."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from exporter.resolver import Address, Resolver, literal

WaitUntil = Callable[..., Awaitable[None]]


class Dns:
    """A name server that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = threading.Event()

    def __call__(self, host: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        self.may_answer.wait(60)
        if host.startswith("gone"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    server = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.may_answer.set()


@pytest.fixture
async def resolver() -> AsyncIterator[Resolver]:
    resolver = Resolver()
    yield resolver
    await resolver.close()


class Answers(list[tuple[tuple[Address, ...], str]]):
    def add(self, addresses: tuple[Address, ...], fault: str) -> None:
        self.append((addresses, fault))


async def test_a_name_is_looked_up_once_for_all_who_ask_while_the_loop_goes_on(
    dns: Dns, resolver: Resolver, wait_until: WaitUntil
) -> None:
    answers = Answers()
    for _ in range(50):
        resolver.resolve("bots.example", 80, answers.add)

    async def asked() -> bool:
        return bool(dns.asked)

    await wait_until(asked)
    assert not answers, "the server has not answered, and nobody waited for it"
    dns.may_answer.set()

    async def all_told() -> bool:
        return len(answers) == 50

    await wait_until(all_told)
    assert set(answers) == {(((socket.AF_INET, ("127.0.0.1", 80)),), "")}
    assert dns.asked == ["bots.example"]


@pytest.mark.parametrize("host", ["bots.example", "gone.example"])
async def test_an_answer_is_kept_for_a_while(dns: Dns, resolver: Resolver, host: str) -> None:
    dns.may_answer.set()
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    resolver.resolve(host, 80, lambda *_: told.set_result(None))
    await told
    again = Answers()
    resolver.resolve(host, 80, again.add)
    ((addresses, fault),) = again
    assert bool(addresses) != bool(fault)
    assert dns.asked == [host]


async def test_a_name_is_asked_for_again_once_its_answer_is_old(dns: Dns, wait_until: WaitUntil) -> None:
    dns.may_answer.set()
    resolver = Resolver(ttl=0.05)

    async def asked_again() -> bool:
        resolver.resolve("bots.example", 80, lambda *_: None)
        return len(dns.asked) >= 2

    await wait_until(asked_again)
    await resolver.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_an_address_needs_no_server(host: str) -> None:
    found = literal(host, 80)
    assert found is not None
    assert found[1] == (host.strip("[]"), 80)


@pytest.mark.parametrize("host", ["bots.example", "127.1", "1.2.3.4.5", "256.0.0.1"])
def test_a_name_is_no_address(host: str) -> None:
    assert literal(host, 80) is None
