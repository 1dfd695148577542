"""Bots on real sockets, an exporter as a real process, and a bounded wait."""

import asyncio
import contextlib
import os
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import aiohttp
import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# How long an example takes says more about the machine's load than about the code.
hypothesis.settings.register_profile("exporter", deadline=None)
hypothesis.settings.load_profile("exporter")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def raw_bot() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Start a bot that answers each connection as the handler says; gives its address."""
    servers: list[asyncio.Server] = []
    connections: set[asyncio.Task[None]] = set()

    async def start(handler: Handler, host: str = "127.0.0.1") -> str:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            task.add_done_callback(connections.discard)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, host, 0)
        servers.append(server)
        return f"{host}:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


@pytest.fixture
def http_bot(
    raw_bot: Callable[[Handler], Awaitable[str]],
) -> Callable[[dict[str, bytes]], Awaitable[str]]:
    """Start a bot that keeps connections open and answers each path with the bytes given (default: 404)."""

    async def start(answers: dict[str, bytes]) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while request := await reader.readuntil(b"\r\n\r\n"):
                path = request.split(b" ")[1].decode()
                writer.write(answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
                await writer.drain()

        return await raw_bot(handle)

    return start


@pytest.fixture
def wait_until() -> Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]:
    """Poll the condition until it is true; fail after `timeout` seconds."""

    async def wait(condition: Callable[[], Awaitable[object]], timeout: float = 20) -> None:
        async with asyncio.timeout(timeout):
            while not await condition():  # noqa: ASYNC110 - the condition is another process's
                await asyncio.sleep(0.02)

    return wait


@dataclass
class Exporter:
    """A running exporter process."""

    url: str
    process: asyncio.subprocess.Process
    log: Path

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.text()

    async def post(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.post(self.url + path) as response:
            return response.status, await response.text()

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 20)


@pytest.fixture
def run_exporter(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Exporter]]:
    """Run `python -m exporter` with these flags on a free port until the block ends."""

    @contextlib.asynccontextmanager
    async def run(*flags: str) -> AsyncIterator[Exporter]:
        log = tmp_path / "exporter.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "exporter", "--web.listen-address", "127.0.0.1:0", *flags,
                stderr=output, env={**os.environ, "PYTHONWARNINGS": "error"},
            )  # fmt: skip
        try:
            yield Exporter(await _bound_url(log, process), process, log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return run


async def _bound_url(log: Path, process: asyncio.subprocess.Process) -> str:
    """Wait until the exporter listens, and return its URL from its log."""
    async with asyncio.timeout(30):
        while not (match := re.search(r"event=listening url=(\S+)", log.read_text())):
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.02)
    return match[1]


@pytest.fixture
def certificate() -> Callable[..., ssl.SSLContext]:
    return make_certificate


def make_certificate(folder: Path, address: str, ends: timedelta = timedelta(days=1)) -> ssl.SSLContext:
    """Make a server's context with a fresh self-signed certificate, written to `folder`/cert.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
