"""A stand-in's web server, in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def listening(app: web.Application, *, shutdown_timeout: float = 1) -> AsyncIterator[str]:
    """Serve the application on a free port of loopback until the block ends; yields its URL.

    `shutdown_timeout`: seconds that requests under way are given at the end.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
