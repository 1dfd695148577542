"""A run as it goes on: a bar on a terminal, a line a step in a pipe, and the exit code that its end means."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import click
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from botctl import views
from botctl.errors import BotctlError, Exit
from botctl.follow import View, ended, follow
from botctl.session import Session
from botctl.tables import Row, clean, duration, lasted

_GOOD: Final = "recovered unneeded resolved shadowed deployed retired adopted completed done"
GOOD_ENDS: Final = frozenset(_GOOD.split(" "))
MARKS: Final = {"done": "✓", "cured": "✓", "completed": "✓", "failed": "✗", "not_cured": "✗", "shadowed": "·"}


def watch(session: Session, path: str, timeout: float) -> None:
    """Follow a run to its end and print that; end botctl where it ended badly or takes longer."""
    view: View | None = None
    with _progress(session) as show:
        for view in follow(session.client, path, timeout=timeout):
            show(view)
    if view is None or not ended(view):
        raise BotctlError(
            f"still {view['status'] if view else 'unknown'} after {duration(timeout)}",
            f"it goes on; botctl watch {path.rpartition('/')[2]}",
            Exit.waiting,
        )
    if session.json:
        session.view(view)
    else:
        session.out.print(views.headline(view))
    if view["status"] not in GOOD_ENDS:
        raise click.exceptions.Exit(Exit.failed)


class _Screen:
    """Prints each step once, when it has ended, and moves the bar."""

    def __init__(self, session: Session, bar: Progress | None) -> None:
        self._session, self._bar = session, bar
        self._task = bar.add_task("", total=None) if bar is not None else None
        self._printed: set[tuple[str, str]] = set()

    def __call__(self, view: View) -> None:
        for step in steps(view):
            key = (str(step["name"]), str(step["status"]))
            if step.get("finishedAt") and key not in self._printed:
                self._printed.add(key)
                self._line(step_line(step))
        reason = str(view["reason"]) if view["status"] == "blocked" else ""
        if reason and (reason, "") not in self._printed:
            self._printed.add((reason, ""))
            self._line(Text(f"⏸ waits: {clean(reason)}", style="yellow"))
        if self._bar is not None and self._task is not None:
            percent = view.get("percent")
            total = None if percent is None else 100
            self._bar.update(self._task, description=position(view), total=total, completed=percent or 0)

    def _line(self, text: Text) -> None:
        (self._bar.console if self._bar is not None else self._session.out).print(text)


@contextmanager
def _progress(session: Session) -> Iterator[Any]:
    if session.json:
        yield lambda _: None
        return
    bar = _bar(session) if session.err.is_terminal else None
    running: AbstractContextManager[Any] = bar if bar is not None else nullcontext()
    with running:
        yield _Screen(session, bar)


def _bar(session: Session) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(show_speed=False),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=session.err, transient=True)


def steps(view: Mapping[str, Any]) -> Sequence[Row]:
    """Return what was done, in order: steps, a recovery's tiers, or a rollout's bots."""
    attempts = view.get("attempts") or []
    tiers = [{**attempt, "name": attempt["tier"], "status": attempt["outcome"]} for attempt in attempts]
    rows = view.get("steps") or view.get("bots") or []
    named = [{**row, "name": row.get("name") or row.get("bot")} for row in rows if isinstance(row, dict)]
    return sorted([*named, *tiers], key=lambda step: str(step.get("startedAt") or "~"))


def step_line(step: Row) -> Text:
    """Return a step that is over as one line."""
    mark = MARKS.get(str(step["status"]), "·")
    line = Text.assemble(f"{mark} ", (f"{clean(step['name']):<12}", "bold"), f" {lasted(step):>7}")
    detail = step.get("detail") or step.get("reason")
    if detail:
        line.append(f"  {clean(detail)}", style="dim")
    return line


def position(view: Mapping[str, Any]) -> str:
    """Say in a few words where a run is: `my-bot: healthy, about 40s left`."""
    name = view.get("botName") or view.get("botId") or view.get("rolloutId") or ""
    active = [step["name"] for step in steps(view) if not step.get("finishedAt")]
    now = active[-1] if active else view["status"]
    left = view.get("estimatedSeconds")
    about = f", about {duration(left)} left" if isinstance(left, int | float) and left > 0 else ""
    return clean(f"{name}: {now}{about}")
