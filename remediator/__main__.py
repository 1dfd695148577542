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

from remediator import logs
from remediator.app import create_app
from remediator.database import Database
from remediator.services import VERSION
from remediator.settings import Settings, SettingsError, describe, read_settings
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
    parser.parse_args(arguments)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        settings = read_settings()
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
        server.should_exit = True
        if (api := getattr(app.state, "api", None)) is not None:
            api.services.engine.let_go()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    shown = f"[{host}]" if ":" in host else host
    log.info("listening", url=f"http://{shown}:{listener.getsockname()[1]}", version=VERSION)
    await server.serve(sockets=[listener])
    log.info("stopped")
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Uvicorn raises the signal that stopped it once more at its end; an orderly stop is no fault."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _settings_table() -> str:
    lines = []
    for name, default, meaning in describe():
        text = f"{meaning} (default: {default})" if default else meaning
        lines += [f"  {name}", *textwrap.wrap(text, 90, initial_indent="      ", subsequent_indent="      ")]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
