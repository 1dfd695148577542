"""`python -m exporter`: wiring and an exit code."""

import asyncio
import contextlib
import gc
import signal
import ssl
import sys
from collections.abc import AsyncIterator

import aiohttp
import structlog
import uvloop
from aiohttp import web

from exporter import logs
from exporter.exposition.self_metrics import SelfMetrics
from exporter.exposition.store import Store
from exporter.fleet.discovery import Discovery
from exporter.fleet.fd_limits import RESERVED, raise_limit
from exporter.fleet.fleet import Fleet
from exporter.fleet.reloader import Reloader
from exporter.probing.fast_prober import FastProber
from exporter.probing.prober import Prober
from exporter.probing.stream_prober import StreamProber, session_for
from exporter.settings import Settings, package_version, parse_settings
from exporter.web.listening import listen_everywhere
from exporter.web.origins import refuse_other_sites
from exporter.web.server import Server
from exporter.web.web_config import WebConfigError, WebConfigFile, basic_auth_middleware

log = structlog.get_logger()


def main(arguments: list[str] | None = None) -> int:
    """Run the exporter until it is told to stop; the exit code is 1 where it cannot start."""
    settings = parse_settings(arguments)
    gc.set_threshold(50_000, 20, 100)  # probes leave no cycles: the usual 700 would walk a fleet for nothing
    logs.configure(settings.log_level, settings.log_format)
    try:
        uvloop.run(serve(settings))
    except (OSError, WebConfigError) as error:
        log.error("cannot start", why=str(error))
        return 1
    return 0


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. OSError or WebConfigError where an address or a file cannot be used."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    descriptors = raise_limit()
    web_config = WebConfigFile(settings.web_config) if settings.web_config else None
    tls = web_config.tls_context() if web_config else None
    self_metrics, store = SelfMetrics(settings, package_version()), Store()
    async with session_for(settings) as session, aiohttp.ClientSession() as discovery_session:
        prober: Prober = StreamProber(settings, session)
        if settings.transport == "auto":
            prober = FastProber(settings, prober, session.resolver)
        limit = settings.max_in_flight or max(1, descriptors - RESERVED)
        fleet = Fleet(settings, prober, store, self_metrics, max_in_flight=limit)
        reloader = Reloader(
            Discovery(settings, discovery_session), fleet, self_metrics, settings, descriptors
        )
        middlewares = [refuse_other_sites, *([basic_auth_middleware(web_config)] if web_config else [])]
        app = Server(settings, session, fleet, store, self_metrics, reloader).app(*middlewares)
        async with _listening(app, *settings.listen, tls) as url:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, stop.set)
            loop.add_signal_handler(signal.SIGHUP, reloader.wake)
            log.info("listening", url=url, version=package_version(), max_in_flight=limit)
            reloading = loop.create_task(reloader.run())
            reloading.add_done_callback(lambda _: stop.set())
            await stop.wait()
            log.info("stopping")
            fleet.stop()
            reloading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reloading
        await prober.close()


@contextlib.asynccontextmanager
async def _listening(
    app: web.Application, host: str, port: int, tls: ssl.SSLContext | None
) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        site = (
            web.TCPSite(runner, host, port, ssl_context=tls)
            if host
            else web.SockSite(runner, listen_everywhere(port), ssl_context=tls)
        )
        await site.start()
        bound = runner.addresses[0]
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"{'https' if tls else 'http'}://{name}:{bound[1]}"
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
