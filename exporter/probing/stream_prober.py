"""Probing over the event loop's own connections: https, which the fast prober does not speak."""

import asyncio

import structlog

from exporter.probing.probe import OwnFaultError, Session, open_session, probe, tls_context
from exporter.probing.prober import Done
from exporter.probing.resolver import Resolver
from exporter.settings import Settings
from exporter.targets import Target

log = structlog.get_logger()


class StreamProber:
    """A prober with one task a probe."""

    def __init__(self, settings: Settings, session: Session) -> None:
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


def session_for(settings: Settings) -> Session:
    """Open the probing session these settings ask for; OSError if the CA file is no good."""
    try:
        tls = tls_context(settings.tls_ca_file, verify=settings.tls_verify)
    except OSError as error:  # ssl.SSLError is one too
        raise OSError(f"--probe.tls-ca-file {settings.tls_ca_file}: {error.strerror or error}") from None
    resolver = Resolver(timeout=min(5.0, settings.timeout / 2))
    return open_session(
        tls=tls, keep_alive=settings.interval * 2 if settings.keep_alive else 0, resolver=resolver
    )
