"""Every way a bot can answer, over real sockets."""

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from exporter.probing.fast_prober import FastProber
from exporter.probing.probe import ProbeResult, Reason, Steps, open_session, probe
from exporter.probing.prober import Prober
from exporter.probing.stream_prober import StreamProber
from exporter.result import NOT_ASKED, Facts
from exporter.settings import Settings
from exporter.targets import NO_MESH, Target

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RawBot = Callable[[Handler], Awaitable[str]]
HttpBot = Callable[[dict[str, bytes]], Awaitable[str]]
Certificate = Callable[[Path, str, timedelta], ssl.SSLContext]
RunProbe = Callable[..., Awaitable[ProbeResult]]

PATIENCE = 10.0  # for answers that must come; never waited for in full
IMPATIENCE = 0.3  # for answers that never come


@pytest.fixture(params=["aiohttp", "fast"])
async def run_probe(request: pytest.FixtureRequest) -> AsyncIterator[RunProbe]:
    """Probe a target once, over each transport."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(
            target: Target, timeout: float = PATIENCE, tls: ssl.SSLContext | None = None
        ) -> ProbeResult:
            settings = Settings(timeout=timeout)
            session = await stack.enter_async_context(open_session(tls=tls))
            prober: Prober = StreamProber(settings, session)
            if request.param == "fast":
                prober = FastProber(settings, prober, session.resolver)
            stack.push_async_callback(prober.close)
            answer: asyncio.Future[ProbeResult | None] = asyncio.get_running_loop().create_future()
            prober.start(target, answer.set_result)
            result = await answer
            assert result is not None
            return result

        yield run


def reply(body: bytes | str = b"", status: str = "200 OK", kind: str = "application/json") -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


LIVE = reply('{"ok":true,"status":"live"}')


@pytest.mark.parametrize(
    "answer",
    [
        LIVE,
        reply("ok", kind="text/plain"),
        reply("", kind="text/plain"),
        reply("[1, 2]"),
        reply('{"ok": null}'),
        reply("{broken", kind="text/plain"),
        reply("{broken"),
        reply("", "204 No Content"),
        reply("<!doctype html><p>All is well", kind="text/html; charset=utf-8"),
        reply("x" * 70_000, kind="text/plain"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_200_is_healthy(http_bot: HttpBot, run_probe: RunProbe, answer: bytes) -> None:
    result = await run_probe(Target("forge", await http_bot({"/health": answer, "/mesh": LIVE})))
    assert (result.health.ok, result.health.reason, result.health.status in (200, 204)) == (True, None, True)
    assert result.mesh.ok


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply("{}", "500 Internal Server Error"), Reason.http_status),
        (reply("{}", "503 Service Unavailable"), Reason.http_status),
        (reply("<!DOCTYPE html><openclaw-app></openclaw-app>", kind="text/html"), Reason.bad_payload),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nNOT HEX\r\nhello\r\n", Reason.bad_payload),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Reason.bad_payload),
        (reply('{"ok": false, "why": "no model key"}'), Reason.not_ok),
        (reply('{"ok": false}', kind="text/plain"), Reason.not_ok),
    ],
)
async def test_a_bad_answer_has_its_reason(
    http_bot: HttpBot, run_probe: RunProbe, answer: bytes, reason: Reason
) -> None:
    result = await run_probe(Target("forge", await http_bot({"/health": answer, "/mesh": LIVE})))
    assert (result.health.ok, result.health.reason) == (False, reason)
    assert result.health.detail
    assert result.mesh.ok, "the mesh is judged by its own answer"


async def test_a_redirect_is_an_answer_other_than_200_and_is_not_followed(
    http_bot: HttpBot, run_probe: RunProbe
) -> None:
    circle = b"HTTP/1.1 302 Found\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n"
    result = await run_probe(Target("forge", await http_bot({"/health": circle, "/mesh": LIVE})))
    assert (result.health.reason, result.health.status) == (Reason.http_status, 302)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_after_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    await reader.read()


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def trickle_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: x\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()


async def close_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def close_in_a_chunk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf")
    await writer.drain()


async def send_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def send_headers_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Filler: " + b"x" * 8_000 + b"\r\n")
        await writer.drain()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


@pytest.mark.parametrize(
    ("handler", "reason", "timeout"),
    [
        (hang, Reason.read_timeout, IMPATIENCE),
        (hang_after_headers, Reason.read_timeout, IMPATIENCE),
        (trickle, Reason.read_timeout, IMPATIENCE),
        (trickle_headers, Reason.read_timeout, IMPATIENCE),
        (close_at_once, Reason.disconnected, PATIENCE),
        (close_in_the_body, Reason.disconnected, PATIENCE),
        (close_in_a_chunk, Reason.disconnected, PATIENCE),
        (reset, Reason.disconnected, PATIENCE),
        (send_headers_without_end, Reason.bad_payload, PATIENCE),
    ],
)
async def test_a_bad_connection_has_its_reason(
    raw_bot: RawBot, run_probe: RunProbe, handler: Handler, reason: Reason, timeout: float
) -> None:
    result = await run_probe(Target("forge", await raw_bot(handler)), timeout)
    assert (result.health.reason, result.mesh.reason) == (reason, reason)
    assert result.health.detail


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def test_nobody_listening_is_connect_refused(run_probe: RunProbe) -> None:
    result = await run_probe(Target("forge", closed_port()))
    assert (result.health.reason, result.mesh.reason) == (Reason.connect_refused, Reason.connect_refused)


async def test_a_full_backlog_is_connect_timeout(run_probe: RunProbe) -> None:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):  # what the queue holds; Linux lets one more in than it was told
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        result = await run_probe(Target("forge", f"127.0.0.1:{listener.getsockname()[1]}"), IMPATIENCE)
    assert result.health.reason is Reason.connect_timeout
    assert result.mesh.reason is Reason.connect_timeout


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid"])
async def test_a_name_without_address_is_dns(run_probe: RunProbe, host: str) -> None:
    result = await run_probe(Target("forge", f"{host}:80"))
    assert (result.health.reason, result.mesh.reason) == (Reason.dns, Reason.dns)


async def test_both_answers_come_over_one_connection(raw_bot: RawBot, run_probe: RunProbe) -> None:
    connections: list[list[bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths: list[bytes] = []
        connections.append(paths)
        while request := await reader.readuntil(b"\r\n\r\n"):
            paths.append(request.split(b" ")[1])
            writer.write(LIVE)

    result = await run_probe(Target("forge", await raw_bot(handle)))
    assert result.health.ok
    assert result.mesh.ok
    assert connections == [[b"/health", b"/mesh"]]


async def test_a_server_that_closes_after_each_answer_is_asked_again(
    raw_bot: RawBot, run_probe: RunProbe
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    result = await run_probe(Target("forge", await raw_bot(handle)))
    assert result.health.ok
    assert result.mesh.ok


async def test_health_may_hang_while_the_mesh_answers(raw_bot: RawBot, run_probe: RunProbe) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if b" /health " in request:
            await reader.read()
        writer.write(LIVE)
        await writer.drain()

    result = await run_probe(Target("forge", await raw_bot(handle)), 1)
    assert result.health.reason is Reason.read_timeout
    assert result.mesh.ok


async def test_paths_and_a_mesh_elsewhere_are_asked_where_the_target_says(
    http_bot: HttpBot, run_probe: RunProbe
) -> None:
    mesh = await http_bot({"/peers?all=1": LIVE})
    address = await http_bot({"/live": LIVE})
    target = Target("forge", address, health_path="/live", mesh_path=f"http://{mesh}/peers?all=1")
    result = await run_probe(target)
    assert result.health.ok
    assert result.mesh.ok


async def test_facts_are_read_from_the_answers(http_bot: HttpBot, run_probe: RunProbe) -> None:
    health = {"boot_id": "b1", "started_at": "2026-01-01T00:00:00Z", "version": 7, "config_sha": ["no"]}
    mesh = {"peers": [{"name": "a", "up": True}, {"name": "b", "up": False}, {"name": "c"}, 4]}
    answers = {"/health": reply(json.dumps(health)), "/mesh": reply(json.dumps(mesh))}
    result = await run_probe(Target("forge", await http_bot(answers)))
    assert (result.boot_id, result.started_at) == ("b1", "2026-01-01T00:00:00Z")
    assert (result.version, result.config_sha) == ("7", None)
    assert result.peers_up_ratio == 0.5


async def test_facts_that_health_does_not_tell_are_those_of_the_mesh(
    http_bot: HttpBot, run_probe: RunProbe
) -> None:
    """OpenClaw tells only there; a fact that both tell is that of /health."""
    mesh = {"boot_id": "b1", "started_at": "s1", "version": "2", "config_sha": "c", "context_usage": 0.5}
    mesh |= {"usage": {"requests": 3, "input_tokens": 20, "output_tokens": 10}}
    answers = {"/health": reply(json.dumps({"version": "1"})), "/mesh": reply(json.dumps(mesh))}
    result = await run_probe(Target("forge", await http_bot(answers)))
    assert result.facts == Facts("b1", "s1", "1", "c", 0.5, 3, 20, 10)


async def test_a_bot_without_a_mesh_is_asked_for_none(raw_bot: RawBot, run_probe: RunProbe) -> None:
    """And has one request to answer."""
    asked: list[bytes] = []

    async def bot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                asked.append(request.split()[1])
                writer.write(LIVE)

    result = await run_probe(Target("shop", await raw_bot(bot), mesh_path=NO_MESH))
    assert asked == [b"/health"]
    assert result.health.ok
    assert result.mesh is NOT_ASKED
    gone = await run_probe(Target("shop", "127.0.0.1:1", mesh_path=NO_MESH))
    assert (gone.health.reason, gone.mesh) == (Reason.connect_refused, NOT_ASKED)


async def test_latency_is_the_bots_own(raw_bot: RawBot, run_probe: RunProbe) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(0.2)
            writer.write(LIVE)

    result = await run_probe(Target("forge", await raw_bot(slow)))
    assert result.health.seconds >= 0.2
    assert result.mesh.seconds >= 0.2


async def test_the_steps_of_a_probe_are_told_with_their_times(http_bot: HttpBot) -> None:
    address = await http_bot({"/health": LIVE})
    steps = Steps()
    async with open_session() as session:
        await probe(session, Target("forge", address), timeout=PATIENCE, steps=steps)
    assert [text for _, text in steps.lines] == [
        f"GET http://{address}/health",
        "connected",
        "answer 200",
        "ok",
        f"GET http://{address}/mesh",
        "same connection",
        "answer 404",
        "failed: http_status: answered 404",
    ]
    times = [seconds for seconds, _ in steps.lines]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("address", "ends", "trusted", "reason"),
    [
        ("127.0.0.1", timedelta(days=1), True, None),
        ("127.0.0.1", timedelta(days=1), False, Reason.tls),
        ("127.0.0.1", timedelta(days=-1), True, Reason.tls),
        ("127.0.0.2", timedelta(days=1), True, Reason.tls),
    ],
    ids=["good", "unknown issuer", "expired", "wrong host"],
)
async def test_certificates_are_checked(
    tmp_path: Path,
    run_probe: RunProbe,
    certificate: Certificate,
    address: str,
    ends: timedelta,
    trusted: bool,
    reason: Reason | None,
) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(LIVE)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=certificate(tmp_path, address, ends))
    port = server.sockets[0].getsockname()[1]
    client = ssl.create_default_context(cafile=tmp_path / "cert.pem" if trusted else None)
    result = await run_probe(Target("forge", f"127.0.0.1:{port}", scheme="https"), tls=client)
    server.close()
    assert (result.health.reason, result.mesh.reason) == (reason, reason)


async def test_https_to_a_plain_server_is_tls(raw_bot: RawBot, run_probe: RunProbe) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    result = await run_probe(Target("forge", await raw_bot(refuse), scheme="https"))
    assert (result.health.reason, result.mesh.reason) == (Reason.tls, Reason.tls)
