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
from exporter.descriptors import RESERVED, raise_limit
from exporter.discovery import Discovery
from exporter.fast import FastProber
from exporter.fleet import Fleet
from exporter.meters import Meters
from exporter.probers import AiohttpProber, Prober, session_for
from exporter.reload import Reloader
from exporter.server import Server
from exporter.settings import Settings, package_version, parse_settings
from exporter.store import Store
from exporter.web_config import WebConfigError, WebConfigFile, guard

log = structlog.get_logger()


def main(arguments: list[str] | None = None) -> int:
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
    """Run until SIGTERM or SIGINT. OSError or WebConfigError where what is asked for cannot be had."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    descriptors = raise_limit()
    web_config = WebConfigFile(settings.web_config) if settings.web_config else None
    tls = web_config.tls_context() if web_config else None
    meters, store = Meters(settings, package_version()), Store()
    async with session_for(settings) as session, aiohttp.ClientSession() as discovery_session:
        prober: Prober = AiohttpProber(settings, session)
        if settings.transport == "auto":
            prober = FastProber(settings, prober)
        limit = settings.max_in_flight or max(1, descriptors - RESERVED)
        fleet = Fleet(settings, prober, store, meters, max_in_flight=limit)
        reloader = Reloader(Discovery(settings, discovery_session), fleet, meters, settings, descriptors)
        guards = [guard(web_config)] if web_config else []
        app = Server(settings, session, fleet, store, meters, reloader).app(*guards)
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
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        bound = runner.addresses[0]
        shown = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        yield f"{'https' if tls else 'http'}://{shown}:{bound[1]}"
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
