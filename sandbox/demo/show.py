"""`python -m sandbox demo`: deploy a fleet, let it fall ill, watch it come back."""

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

from sandbox.cloud.client import CloudError, run_cloud
from sandbox.demo.screen import Screen, ending, timings, write_svg
from sandbox.demo.story import PLAY, REAL_PLAY, Play, Result, Stage, StoryError, deploy_fleet, play
from sandbox.process.binaries import BinaryError
from sandbox.process.openclaw import install
from sandbox.process.processes import ProcessError, is_gone
from sandbox.process.waiting import WaitError
from sandbox.stack.model_provider import run_model_provider
from sandbox.stack.snapshot import Watcher, watch
from sandbox.stack.stack import Stack, StackError, run_stack
from sandbox.stack.telegram import Telegram, run_telegram
from sandbox.stack.timescale import TimescaleError

TROUBLE = (BinaryError, CloudError, ProcessError, StackError, StoryError, TimescaleError, WaitError)
REDRAW = 0.25  # seconds
INTERRUPTED = 130  # as a shell reports SIGINT


@dataclass(slots=True)
class Show:
    """A performance. With `check` there is no screen: a line an act, and a verdict."""

    check: bool
    svg: Path | None = None
    play: Play = PLAY
    screen: Screen = field(default_factory=Screen)
    console: Console = field(default_factory=Console)
    pids: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    watcher: Watcher | None = None  # once the stack runs

    @property
    def drawn(self) -> bool:
        """Return whether there is a screen."""
        return self.console.is_terminal and not self.check

    def narrate(self, text: str) -> None:
        """Add a line to the log on the screen, or write it where there is none."""
        self.screen.add_event(text)
        if not self.drawn:
            print(text, file=sys.stderr, flush=True)

    def conclude(self, result: Result) -> None:
        """Record the result of an act."""
        self.screen.results.append(result)
        self.problems += [f"{result.act.name}: {problem}" for problem in result.problems]
        if not self.drawn:
            print(line_of(result), flush=True)


def demo(state: Path | None, svg: Path | None, *, check: bool, real: bool = False) -> int:
    """Play it all, and return the exit code. Without `check` it stays up until SIGINT or SIGTERM.

    `real`: the bots are OpenClaw's gateways.
    """
    play = REAL_PLAY if real else PLAY
    show = Show(check, svg, play, Screen(acts=play.acts))
    with state_folder(state) as folder:
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
    played = len(show.screen.results) == len(play.acts)
    if check:
        print(json.dumps(verdict(show, played)), flush=True)
    return 1 if show.problems else 0 if played and (finished or not check) else INTERRUPTED


async def perform(show: Show, folder: Path) -> None:
    """Start everything, play the acts, and stay up unless it is a check."""
    async with AsyncExitStack() as exit_stack:
        if show.drawn:
            await exit_stack.enter_async_context(drawing(show))
        stack = await exit_stack.enter_async_context(staged(show, folder))
        show.screen.urls = urls_of(stack)
        watcher = await exit_stack.enter_async_context(watch(stack, show.screen.add_audit_entry))
        show.watcher = watcher
        show.pids |= await pids_of(stack)
        await play_acts(show, Stage(stack, watcher, show.narrate, show.play.step_seconds))
        if show.svg is not None:
            show.screen.now = watcher.now
            write_svg(show.screen, show.svg)
        if not show.check:
            token = folder / "config" / "remediator-token"
            show.narrate(f"that was the play; all stays up until Ctrl-C. The API's token is in {token}")
            for name, url in show.screen.urls.items() if not show.drawn else ():
                print(f"{name:14} {url}", flush=True)
            await asyncio.Event().wait()


@asynccontextmanager
async def staged(show: Show, folder: Path) -> AsyncIterator[Stack]:
    """Run the cloud, and the services around it; for real bots also what they talk to."""
    async with AsyncExitStack() as exit_stack:
        telegram: Telegram | None = None
        openclaw: tuple[str, ...] = ()
        if show.play.real:
            show.narrate("looking for OpenClaw in .cache; fetching it (0.9 GB) takes minutes, once")
            await asyncio.to_thread(install)
            telegram = await exit_stack.enter_async_context(run_telegram())
            models = await exit_stack.enter_async_context(run_model_provider())
            openclaw = (telegram.url, models.url)
        cloud = await exit_stack.enter_async_context(run_cloud(folder / "cloud", openclaw=openclaw))
        show.narrate("a cloud in a box is up; starting Prometheus, Alertmanager, exporter, remediator")
        scale, settings = show.play.scale, show.play.settings
        stack = run_stack(folder, cloud, scale=scale, settings=settings, telegram=telegram)
        yield await exit_stack.enter_async_context(stack)


async def play_acts(show: Show, stage: Stage) -> None:
    """Deploy the fleet, and play act after act."""
    show.narrate(f"deploying {len(show.play.bots)} bots through POST /deploy")
    seconds = await deploy_fleet(stage, show.play)
    show.narrate(f"{len(show.play.bots)} bots are deployed, and seen to be well, after {seconds:.1f} s")
    for act in show.play.acts:
        show.screen.playing = act
        result = await play(act, stage)
        show.pids |= await pids_of(stage.stack)
        show.conclude(result)
    show.screen.playing = None


async def pids_of(stack: Stack) -> set[int]:
    """Return every process that must be gone in the end."""
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
    """Run it to its end, or until SIGINT or SIGTERM; returns whether it came to its end."""
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
def state_folder(state: Path | None) -> Iterator[Path]:
    """Yield the folder for logs and data: the given one, or one that is removed afterwards."""
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
    """Format a result: `ok  killed  support-1  restart cured it  alert 4.1 s · action 4.6 s · …  BotDown`"""
    bots = result.act.bots[0] if len(result.act.bots) == 1 else f"{len(result.act.bots)} bots"
    moments = zip(("alert", "action", "healthy"), timings(result), strict=True)
    times = " · ".join(f"{moment} {seconds}" for moment, seconds in moments)
    mark = "ok  " if result.ok else "FAIL"
    line = f"{mark} {result.act.name:15} {bots:15} {ending(result).plain[2:]:20} {times}  {result.alert}"
    return line.rstrip()


def verdict(show: Show, played: bool) -> dict[str, Any]:
    """Return the last line of a check: results, problems and seconds."""
    return {
        "acts": [result.as_json() for result in show.screen.results],
        "ok": played and not show.problems,
        "seconds": round(time.time() - show.screen.begun, 1),
        "problems": show.problems,
    }


def print_logs(folder: Path, lines: int = 12) -> None:
    """Print the ends of the services' logs, to find the cause of a failure."""
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

    with state_folder(state) as folder:
        asyncio.run(until_signal(run(folder)))
    return 0
