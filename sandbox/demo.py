"""`python -m sandbox demo`: deploy a fleet, let it fall ill in five ways, watch it come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from sandbox.binaries import BinaryError
from sandbox.cloud import CloudError, run_cloud
from sandbox.processes import ProcessError, is_gone
from sandbox.screen import Screen, ending, timings, write_svg
from sandbox.stack import Stack, StackError, run_stack
from sandbox.story import ACTS, Result, Stage, StoryError, deploy_fleet, play
from sandbox.timescale import TimescaleError
from sandbox.waiting import WaitError
from sandbox.watch import Watcher, watching

TROUBLE = (BinaryError, CloudError, ProcessError, StackError, StoryError, TimescaleError, WaitError)
REDRAW = 0.25  # seconds
INTERRUPTED = 130  # as a shell reports SIGINT


@dataclass(slots=True)
class Show:
    """One performance. With `check` nobody watches: a line an act, and a verdict."""

    check: bool
    svg: Path | None = None
    screen: Screen = field(default_factory=Screen)
    console: Console = field(default_factory=Console)
    pids: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    watcher: Watcher | None = None  # once there is something to watch

    @property
    def drawn(self) -> bool:
        return self.console.is_terminal and not self.check

    def narrate(self, text: str) -> None:
        self.screen.say(text)
        if not self.drawn:
            print(text, file=sys.stderr, flush=True)

    def conclude(self, result: Result) -> None:
        self.screen.results.append(result)
        self.problems += [f"{result.act.name}: {problem}" for problem in result.problems]
        if not self.drawn:
            print(line_of(result), flush=True)


def demo(state: Path | None, svg: Path | None, *, check: bool) -> int:
    """Play it all; the exit code. Without `check` it stays up until SIGINT or SIGTERM."""
    show = Show(check, svg)
    with place(state) as folder:
        try:
            finished = asyncio.run(until_signal(perform(show, folder)))
        except TROUBLE as error:
            show.problems.append(str(error))
            finished = True
        if show.problems:
            print_logs(folder)
    show.problems += [f"process {pid} is left" for pid in sorted(show.pids) if not is_gone(pid)]
    if show.drawn:
        show.console.print(show.screen)
    for problem in show.problems:
        print(f"demo: {problem}", file=sys.stderr)
    played = len(show.screen.results) == len(ACTS)
    if check:
        print(json.dumps(verdict(show, played)), flush=True)
    return 1 if show.problems else 0 if played and (finished or not check) else INTERRUPTED


async def perform(show: Show, folder: Path) -> None:
    async with AsyncExitStack() as exit_stack:
        if show.drawn:
            await exit_stack.enter_async_context(drawing(show))
        cloud = await exit_stack.enter_async_context(run_cloud(folder / "cloud"))
        show.narrate("a cloud in a box is up; starting Prometheus, Alertmanager, exporter, remediator")
        stack = await exit_stack.enter_async_context(run_stack(folder, cloud))
        show.screen.urls = urls_of(stack)
        watcher = await exit_stack.enter_async_context(watching(stack, show.screen.hear))
        show.watcher = watcher
        show.pids |= await pids_of(stack)
        await tell_story(show, Stage(stack, watcher, show.narrate))
        if show.svg is not None:
            show.screen.now = watcher.now
            write_svg(show.screen, show.svg)
        if not show.check:
            token = folder / "config" / "remediator-token"
            show.narrate(f"that was the play; all stays up until Ctrl-C. The API's token is in {token}")
            for name, url in show.screen.urls.items() if not show.drawn else ():
                print(f"{name:14} {url}", flush=True)
            await asyncio.Event().wait()


async def tell_story(show: Show, stage: Stage) -> None:
    show.narrate("deploying eight bots, two of each template, through POST /deploy")
    seconds = await deploy_fleet(stage)
    show.narrate(f"eight bots are deployed, and seen to be well, after {seconds:.1f} s")
    for act in ACTS:
        show.screen.playing = act
        result = await play(act, stage)
        show.pids |= await pids_of(stage.stack)
        show.conclude(result)
    show.screen.playing = None


async def pids_of(stack: Stack) -> set[int]:
    """Every process that must be gone in the end."""
    processes = [*stack.processes, *([stack.cloud.process] if stack.cloud.process else [])]
    pids = [process.pid for process in processes] + [bot.pid for bot in await stack.cloud.bots()]
    return {pid for pid in pids if pid is not None}


@asynccontextmanager
async def drawing(show: Show) -> AsyncIterator[None]:
    """Keep the screen fresh, on the terminal's alternate screen."""

    async def redraw(live: Live) -> None:
        while True:
            if show.watcher is not None:
                show.screen.now = show.watcher.now
            live.refresh()
            await asyncio.sleep(REDRAW)

    with Live(show.screen, console=show.console, screen=True, auto_refresh=False) as live:
        task = asyncio.create_task(redraw(live))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def until_signal(work: Coroutine[Any, Any, None]) -> bool:
    """Run it to its end, or until SIGINT or SIGTERM; whether it came to its end."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if not task.cancelling():  # a second Ctrl-C must not interrupt the tidying up
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


@contextmanager
def place(state: Path | None) -> Iterator[Path]:
    """The folder for logs and data: the one asked for, or one that is gone afterwards."""
    if state is not None:
        state.mkdir(parents=True, exist_ok=True)
        yield state.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="bot-orchestrator-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def urls_of(stack: Stack) -> dict[str, str]:
    return {
        "remediator": stack.remediator_url,
        "exporter": stack.exporter_url,
        "Prometheus": stack.prometheus_url,
        "Alertmanager": stack.alertmanager_url,
        "cloud": stack.cloud.endpoint_url,
    }


def line_of(result: Result) -> str:
    """`ok  killed  support-1  restart cured it  alert 4.1 s · action 4.6 s · healthy 6.2 s`"""
    bots = result.act.bots[0] if len(result.act.bots) == 1 else f"{len(result.act.bots)} bots"
    moments = zip(("alert", "action", "healthy"), timings(result), strict=True)
    shown = " · ".join(f"{moment} {seconds}" for moment, seconds in moments)
    mark = "ok  " if result.ok else "FAIL"
    return f"{mark} {result.act.name:15} {bots:15} {ending(result).plain[2:]:20} {shown}"


def verdict(show: Show, played: bool) -> dict[str, Any]:
    return {
        "acts": [result.as_json() for result in show.screen.results],
        "ok": played and not show.problems,
        "seconds": round(time.time() - show.screen.begun, 1),
        "problems": show.problems,
    }


def print_logs(folder: Path, lines: int = 12) -> None:
    """The ends of the services' logs, for whoever must find out why."""
    for log in sorted(folder.glob("*.log")):
        tail = log.read_text(errors="replace").splitlines()[-lines:]
        print(f"--- {log.name}", *tail, sep="\n", file=sys.stderr)


def up(state: Path | None) -> int:
    """Run a cloud and a stack over it until SIGINT or SIGTERM."""

    async def run(folder: Path) -> None:
        async with run_cloud(folder / "cloud") as cloud, run_stack(folder, cloud) as stack:
            for name, url in urls_of(stack).items():
                print(f"{name:14} {url}")
            print(f"{'token':14} {folder / 'config' / 'remediator-token'}", flush=True)
            await asyncio.Event().wait()

    with place(state) as folder:
        asyncio.run(until_signal(run(folder)))
    return 0
