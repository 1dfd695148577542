"""How probes are run: the seam between the fleet, which decides, and a transport."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Protocol

import aiohttp
import structlog

from exporter.answer import ProbeResult
from exporter.probe import OwnFaultError, open_session, probe
from exporter.settings import Settings
from exporter.targets import Target

log = structlog.get_logger()

# None: the probe could not be made, for want of something of ours, and says nothing about the bot.
Done = Callable[[ProbeResult | None], None]


class Prober(Protocol):
    """Starts probes; each ends in exactly one call of `done`, unless the prober is closed first."""

    def start(self, target: Target, done: Done) -> None: ...

    async def close(self) -> None: ...


class AiohttpProber:
    """One task a probe."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, target: Target, done: Done) -> None:
        task = asyncio.get_running_loop().create_task(self._probe(target, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _probe(self, target: Target, done: Done) -> None:
        settings = self._settings
        try:
            result = await probe(
                self._session,
                target,
                timeout=settings.timeout,
                max_body=settings.max_body,
                keep_alive=settings.keep_alive,
            )
        except OwnFaultError as fault:
            log.error("probe not made", bot=target.bot, why=str(fault))
            done(None)
        else:
            done(result)


def session_for(settings: Settings) -> aiohttp.ClientSession:
    """The probing session these settings ask for; OSError if the CA file is no good."""
    try:
        tls = ssl.create_default_context(cafile=settings.tls_ca_file)
    except OSError as error:  # ssl.SSLError is one too
        raise OSError(f"--probe.tls-ca-file {settings.tls_ca_file}: {error.strerror or error}") from None
    if not settings.tls_verify:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return open_session(tls=tls, keep_alive=settings.interval * 2 if settings.keep_alive else 0)
