"""The commands of `python -m remediator`: serve, register the SSM documents, verify the audit trail."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Generator

import structlog
import uvicorn

from remediator import logs, process_memory
from remediator.api.auth import token_file
from remediator.app import begin_shutdown, create_app
from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.ssm_commands import DOCUMENTS
from remediator.periodic import wait_for
from remediator.runtime import VERSION
from remediator.settings import Settings, SettingsError
from remediator.store.audit import verify_chain
from remediator.store.database import Database
from remediator.store.store import Store

log = structlog.get_logger()


async def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. SettingsError where a setting cannot be used."""
    logs.configure(settings.log_level, settings.log_format)
    process_memory.configure_malloc()
    database = await Database.open(settings.database_url)  # a wrong one is said before all else
    await database.close()
    own_token_file = token_file.token_file(settings)
    if own_token_file is not None:
        token = token_file.read_or_make(own_token_file)
        settings = settings.model_copy(update={"token": token})
    host = settings.listen[0]
    listener = listen(settings)
    port = listener.getsockname()[1]
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        server_header=False,
        ws="none",
    )
    server = Server(config, lambda: begin_shutdown(app))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    url_host = f"[{host}]" if ":" in host else host
    token_in = str(own_token_file or settings.token_file or "BOT_REMEDIATOR_TOKEN")
    log.info("listening", url=f"http://{url_host}:{port}", version=VERSION, token_in=token_in)
    with token_file.announced(port, own_token_file):
        await server.serve(sockets=[listener])
    log.info("stopped")
    return 0 if server.started else 1


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens. SettingsError where none can."""
    host, port = settings.listen
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise SettingsError(
            f"BOT_REMEDIATOR_LISTEN: cannot listen on {host}:{port}: {error.strerror}"
        ) from None


class Server(uvicorn.Server):
    """Uvicorn raises the signal that stopped it once more at its end; here an orderly stop is no fault.

    `on_stop` is called when it begins to stop.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop, self._stopping = on_stop, asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to `serve`."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and keep what is there by then out of the garbage collector's way."""
        await super().startup(sockets)
        process_memory.freeze_after_startup()

    async def main_loop(self) -> None:
        """Wait until stopped. Uvicorn's wakes ten times a second, for the Date of answers; once is enough."""
        ticks = 0
        while not self.should_exit:
            await self.on_tick(0)
            await wait_for(self._stopping, 1)
            ticks += 1
            if ticks % 60 == 0:
                process_memory.trim()

    def stop(self) -> None:
        """Begin to stop."""
        self.should_exit = True
        self._stopping.set()
        self._on_stop()


async def register_documents(settings: Settings) -> int:
    """Put our SSM documents into the account; return the exit code: 0 once AWS has them.

    So the service itself needs no right to write documents.
    """
    aws = Aws(
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url,
        concurrency=settings.aws_concurrency,
    )
    try:
        for document in DOCUMENTS:
            outcome = await aws.register_document(document)
            print(f"{document.name} in {settings.aws_region}: {outcome}")
    except AwsError as error:
        print(f"bot-remediator: {error.with_remedy}", file=sys.stderr)
        return 1
    return 0


async def verify_audit(settings: Settings) -> int:
    """Print what is wrong with the audit trail; return the exit code: 1 if something is."""
    store = await Store.open(settings.database_url, serving=False)
    try:
        async with store.read() as tx:
            entries = await tx.audit_trail(bot=None, after=0, limit=sys.maxsize)
            faults = verify_chain(entries, await tx.fact("audit_head") or "")
    finally:
        await store.close()
    print("\n".join(faults) or f"{len(entries)} rows, each as it was written")
    return 1 if faults else 0
