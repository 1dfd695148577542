"""The demo's screen: bots, acts, events. It only draws."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from exporter.score import Band, band
from sandbox.demo.story import ACTS, Act, Result
from sandbox.stack.snapshot import BotState, Snapshot

WIDTH, HEIGHT = 118, 42  # of the picture, in characters
EVENTS = 50  # kept
OTHER_LINES = 25  # that all but the log takes
COLOURS: dict[Band, str] = {
    "operational": "green",
    "minor": "yellow",
    "degraded": "dark_orange",
    "critical": "red",
}
STATES = {
    "well": "green",
    "ill": "red",
    "held back": "magenta",
    "recovering": "yellow",
    "quarantined": "magenta",
}


@dataclass(slots=True)
class Screen:
    """The content of the screen, as it comes in."""

    urls: Mapping[str, str] = field(default_factory=dict)
    now: Snapshot = field(default_factory=Snapshot)
    acts: Sequence[Act] = ACTS
    playing: Act | None = None
    results: list[Result] = field(default_factory=list)
    events: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=EVENTS))
    begun: float = field(default_factory=time.time)

    def add_event(self, text: str, style: str = "bold") -> None:
        """Add a line to the log."""
        self.events.append((time.time(), text, style))

    def add_audit_entry(self, entry: Mapping[str, Any]) -> None:
        """Add an entry of the remediator's audit trail, unless it only clutters the log."""
        if (sentence := sentence_of(entry)) is not None:
            self.add_event(*sentence)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("Bot Orchestrator", "bold cyan")
        yield Columns([Text(f"{name} {url}", "dim") for name, url in self.urls.items()], padding=(0, 3))
        yield self.fleet()
        yield self.programme()
        yield self.log(max(3, console.height - OTHER_LINES))

    def fleet(self) -> RenderableType:
        table = Table(expand=True, box=None, padding=(0, 1), header_style="dim")
        for name, justify in (("bot", "left"), ("template", "left"), ("score", "right"), ("", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for name in ("failed probes", "state", "tier"):
            table.add_column(name)
        for bot in sorted(self.now.bots, key=lambda bot: bot.bot):
            table.add_row(*row_of(bot))
        return Panel(table, title="bots", title_align="left", border_style="dim")

    def programme(self) -> RenderableType:
        table = Table(expand=True, box=None, padding=(0, 1), header_style="dim")
        for name in ("act", "what happens", "end"):
            table.add_column(name, no_wrap=name != "what happens")
        for name in ("alert", "first action", "healthy"):
            table.add_column(name, justify="right", no_wrap=True)
        done = {result.act.name: result for result in self.results}
        for act in self.acts:
            result = done.get(act.name)
            style = "" if result else "bold yellow" if act is self.playing else "dim"
            table.add_row(act.name, act.plot, ending(result), *timings(result), style=style)
        return Panel(table, title="the play", title_align="left", border_style="dim")

    def log(self, height: int) -> RenderableType:
        lines = Text(no_wrap=True, overflow="ellipsis")
        for at, text, style in list(self.events)[-height:]:
            clock = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")
            lines.append(f"{clock}  ", "dim")
            lines.append(text + "\n", style)
        lines.rstrip()
        return Panel(lines, title="events", title_align="left", border_style="dim", height=height + 2)


def row_of(bot: BotState) -> Sequence[RenderableType]:
    """Return the cells of a bot's row."""
    score = bot.score if bot.score is not None else 0.0
    colour = COLOURS[band(score)]
    points = "?" if bot.score is None else f"{score:.0f}"
    bar = Text("█" * round(score / 5), colour) + Text("░" * (20 - round(score / 5)), "dim")
    state = state_of(bot)
    streak = Text("●" * min(bot.streak, 10) or "·", "red" if bot.streak else "dim")
    return (
        bot.bot,
        Text(bot.template, "dim"),
        Text(points, colour),
        bar,
        streak,
        Text(state, STATES.get(state, "")),
        bot.tier,
    )


def state_of(bot: BotState) -> str:
    """Return a bot's state in a word, a key of `STATES` or the registry's."""
    if bot.recovery:
        return "held back" if bot.recovery == "blocked" else "recovering"
    if bot.state == "active":
        return "well" if bot.well else "ill"
    return bot.state


def ending(result: Result | None) -> Text:
    """Return how an act ended, or nothing while it has not."""
    if result is None:
        return Text("")
    if not result.ok:
        return Text("✗ " + result.problems[0], "red")
    outcome = f"{result.tier} cured it" if result.outcome == "recovered" else result.outcome
    return Text(f"✓ {outcome}", "green")


def timings(result: Result | None) -> tuple[str, str, str]:
    """Return the times of alert, first action and health of an act, as text."""

    def timing(moment: str) -> str:
        seconds = result.seconds[moment] if result else None
        return "" if result is None else "none" if seconds is None else f"{seconds:.1f} s"

    return timing("alert"), timing("action"), timing("healthy")


def sentence_of(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return a line for the log and its style; None for an entry that only clutters it."""
    bot, event, detail = entry["bot"], entry["event"], entry["detail"]
    kind, _, what = event.partition(".")
    if event == "run.started" and entry["actor"] == "alertmanager":
        return f"{bot}: {detail['alert']}: recovery begins", "yellow"
    if event == "gate.held":
        return f"{bot}: held back before {detail['tier']}: {detail['why']}", "magenta"
    if event == "tier.intended":
        return f"{bot}: {detail['tier']}", "cyan"
    if event == "tier.not_cured":
        return f"{bot}: {detail['tier']} did not help: {detail['seen']}", "dim"
    if kind == "run" and what in ("recovered", "unneeded", "resolved", "deployed"):
        return f"{bot}: {what}: {detail['why']}", "green"
    if kind == "run" and what in ("escalated", "failed", "cancelled"):
        return f"{bot}: {what}: {detail['why']}", "red"
    return None


def write_svg(screen: Screen, path: Path) -> None:
    """Draw the screen into an SVG file."""
    with Path("/dev/null").open("w") as nowhere:
        console = Console(
            record=True,
            width=WIDTH,
            height=HEIGHT,
            file=nowhere,
            force_terminal=True,
            color_system="truecolor",
        )
        console.print(screen)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = console.export_svg(title="make demo")
        # The reader's own fonts: a picture in a README fetches nothing.
        path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))
