"""`python -m remediator`: wiring and an exit code."""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
import textwrap
from collections.abc import Generator

import prometheus_client
import structlog
import uvicorn

from remediator import logs, memory, safekeeping
from remediator.app import create_app
from remediator.database import Database
from remediator.ec2 import RESTART_DOCUMENT, Aws, AwsError
from remediator.rounds import until_woken
from remediator.services import VERSION
from remediator.settings import Settings, SettingsError, describe, read_settings
from remediator.store import Store
from remediator.trail import faults
from templates import TemplateError, load

log = structlog.get_logger()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="bot-remediator",
        description="Takes Alertmanager's webhooks, deploys bots to EC2, and recovers them.",
        epilog="settings, from the environment:\n" + _settings_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve the API and recover bots (the default)")
    audit = commands.add_parser("audit", help="look after the audit trail")
    audit.add_argument("action", choices=["verify"], help="find altered, removed or reordered rows")
    commands.add_parser("register-document", help="put the SSM document that restarts into this account")
    safekeeping.add_commands(commands)
    given = parser.parse_args(arguments)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        settings = read_settings()
        match given.command:
            case "audit":
                return asyncio.run(verify_audit(settings))
            case "register-document":
                return asyncio.run(register_document(settings))
            case "backup":
                return asyncio.run(safekeeping.backup(settings, given, VERSION))
            case "restore":
                return asyncio.run(safekeeping.restore(settings, given))
        load(settings.templates_dir)
        return asyncio.run(serve(settings))
    except (SettingsError, TemplateError) as error:
        print(f"bot-remediator: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


async def serve(settings: Settings) -> int:
    """Until SIGTERM or SIGINT. SettingsError where a setting cannot be used."""
    logs.configure(settings.log_level, settings.log_format)
    memory.tell_malloc()
    database = await Database.open(settings.database_url)  # a wrong one is said before all else
    await database.close()
    host, port = settings.listen
    try:
        listener = socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=512
        )
    except OSError as error:
        raise SettingsError(
            f"BOT_REMEDIATOR_LISTEN: cannot listen on {host}:{port}: {error.strerror}"
        ) from None
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    server = _Server(config)

    def stop() -> None:
        server.stop()
        if (api := getattr(app.state, "api", None)) is not None:
            api.services.engine.let_go()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    shown = f"[{host}]" if ":" in host else host
    log.info("listening", url=f"http://{shown}:{listener.getsockname()[1]}", version=VERSION)
    await server.serve(sockets=[listener])
    log.info("stopped")
    return 0 if server.started else 1


async def register_document(settings: Settings) -> int:
    """So that the service itself needs no right to write documents. 0 once AWS has it."""
    aws = Aws(
        region=settings.aws_region,
        endpoint_url=settings.aws_endpoint_url,
        concurrency=settings.aws_concurrency,
    )
    try:
        done = await aws.register_document()
    except AwsError as error:
        print(f"bot-remediator: {error.told}", file=sys.stderr)
        return 1
    print(f"{RESTART_DOCUMENT} in {settings.aws_region}: {done}")
    return 0


async def verify_audit(settings: Settings) -> int:
    """Prints what is wrong with the trail; 0 if nothing is, 1 if something is."""
    store = await Store.open(settings.database_url, serving=False)
    try:
        async with store.read() as tx:
            entries = await tx.audit_trail(bot=None, after=0, limit=sys.maxsize)
            found = faults(entries, await tx.fact("audit_head") or "")
    finally:
        await store.close()
    print("\n".join(found) or f"{len(entries)} rows, each as it was written")
    return 1 if found else 0


class _Server(uvicorn.Server):
    """Uvicorn raises the signal that stopped it once more at its end; an orderly stop is no fault."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        memory.settle()

    async def main_loop(self) -> None:
        """Uvicorn's wakes ten times a second, for the Date of its answers; once is enough."""
        ticks = 0
        while not self.should_exit:
            await self.on_tick(0)
            await until_woken(self._stopping, 1)
            ticks += 1
            if ticks % 60 == 0:
                memory.trim()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()


def _settings_table() -> str:
    lines = []
    for name, default, meaning in describe():
        text = f"{meaning} (default: {default})" if default else meaning
        lines += [f"  {name}", *textwrap.wrap(text, 90, initial_indent="      ", subsequent_indent="      ")]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
