"""`python -m sandbox`: a cloud in a box, and tools to play with it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.result import FAILURE_KINDS
from sandbox.cloud.client import Cloud, CloudError
from sandbox.cloud.faults import CURES, KINDS, MUTE_REASON, SLOW_SECONDS
from sandbox.process.binaries import STACK, BinaryError, find, version

PORT = 5055  # where a cloud started by hand listens


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        code: int | None = args.run(args)
    except (CloudError, BinaryError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return code or 0


if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_cloud, add_bots, add_fault, add_heal, add_effects, add_binaries, add_up, add_demo):
        add(commands)
    return top


def add_cloud(commands: Commands) -> None:
    command = commands.add_parser("cloud", help="run EC2 and SSM on loopback, with bots as real processes")
    command.add_argument(
        "--state", type=Path, required=True, help="folder for logs and machines; made if missing"
    )
    command.add_argument(
        "--listen",
        default=f"127.0.0.1:{PORT}",
        metavar="HOST:PORT",
        help="default %(default)s; port 0 takes a free one",
    )
    command.add_argument(
        "--boot-seconds", type=float, default=0.3, help="how long an instance boots (default %(default)s)"
    )
    command.add_argument(
        "--openclaw",
        nargs=2,
        metavar=("TELEGRAM", "MODELS"),
        help="bots are the real OpenClaw; the URLs of Telegram's and of Anthropic's API for them",
    )
    command.set_defaults(run=cloud)


def cloud(args: argparse.Namespace) -> None:
    from sandbox.cloud.server import (
        serve,  # moto takes a second to import, which the other commands need not wait
    )

    host, _, port = args.listen.rpartition(":")
    if not port.isdigit():
        raise CloudError(f"--listen: {args.listen!r} is not HOST:PORT")
    if args.openclaw is None:
        serve(args.state, host, int(port), args.boot_seconds)
        return
    from sandbox.cloud.openclaw_machine import Outside
    from sandbox.process.openclaw import install

    outside = Outside(install(), *args.openclaw)
    serve(args.state, host, int(port), args.boot_seconds, outside.machine)


def add_client(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument(
        "--url", default=f"http://127.0.0.1:{PORT}", help="the cloud's address (default %(default)s)"
    )
    return command


def add_bots(commands: Commands) -> None:
    add_client(commands, "bots", "list the bots that run").set_defaults(run=bots)


def bots(args: argparse.Namespace) -> None:
    for bot in asyncio.run(Cloud(args.url).bots()):
        pid = bot.pid or "no process"
        print(
            f"{bot.bot:20} {bot.instance_id:20} {bot.state:10} {bot.address:24} {pid!s:10} {bot.fault or ''}"
        )


def add_fault(commands: Commands) -> None:
    command = add_client(commands, "fault", "make a bot ill")
    command.add_argument("bot")
    command.add_argument("kind", choices=KINDS)
    command.add_argument(
        "--cured-by",
        choices=CURES,
        default="restart",
        help="the weakest remedy that works (default %(default)s)",
    )
    command.add_argument(
        "--seconds",
        type=float,
        default=SLOW_SECONDS,
        help="how late a slow bot answers (default %(default)s)",
    )
    command.add_argument(
        "--reason",
        choices=FAILURE_KINDS,
        default=MUTE_REASON,
        help="why a mute bot's calls of the model fail (default %(default)s)",
    )
    command.set_defaults(run=fault)


def fault(args: argparse.Namespace) -> None:
    options = {"cured_by": args.cured_by, "seconds": args.seconds, "reason": args.reason}
    asyncio.run(Cloud(args.url).fault(args.bot, args.kind, **options))


def add_heal(commands: Commands) -> None:
    command = add_client(commands, "heal", "heal a bot, or all of them")
    command.add_argument("bot", nargs="?", help="its name; none means all")
    command.set_defaults(run=heal)


def heal(args: argparse.Namespace) -> None:
    asyncio.run(Cloud(args.url).heal(args.bot))


def add_effects(commands: Commands) -> None:
    add_client(commands, "effects", "show everything that was done to the fleet").set_defaults(run=effects)


def effects(args: argparse.Namespace) -> None:
    for effect in asyncio.run(Cloud(args.url).effects()):
        at = datetime.fromtimestamp(effect.at, UTC).isoformat(timespec="milliseconds")
        print(f"{at}  {effect.action:10} {effect.instance_id:20} {effect.bot}")


def add_binaries(commands: Commands) -> None:
    text = "find the real Prometheus and Alertmanager, fetching them if need be"
    commands.add_parser("binaries", help=text, description=text).set_defaults(run=binaries)


def binaries(_: argparse.Namespace) -> None:
    for name in STACK:
        path = find(name)
        print(f"{name:14} {version(path):16} {path}")


def add_up(commands: Commands) -> None:
    text = "run the cloud and the whole stack over it until Ctrl-C"
    command = commands.add_parser("up", help=text, description=text)
    add_state(command)
    command.set_defaults(run=up)


def up(args: argparse.Namespace) -> int:
    from sandbox.demo.show import up

    return up(args.state)


def add_demo(commands: Commands) -> None:
    text = "deploy a fleet, let it fall ill in five ways, and watch it come back"
    command = commands.add_parser("demo", help=text, description=text)
    command.add_argument(
        "--real", action="store_true", help="two bots, both the real OpenClaw: one freezes, one goes deaf"
    )
    command.add_argument("--check", action="store_true", help="no screen: a line an act, and an exit code")
    command.add_argument("--svg", type=Path, metavar="PATH", help="write the last screen as a picture")
    add_state(command)
    command.set_defaults(run=demo)


def demo(args: argparse.Namespace) -> int:
    from sandbox.demo.show import demo

    return demo(args.state, args.svg, check=args.check, real=args.real)


def add_state(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--state", type=Path, metavar="DIR", help="folder for logs and data (default: one that is removed)"
    )


if __name__ == "__main__":
    sys.exit(main())
