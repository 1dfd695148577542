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

_WELL: Final = "recovered unneeded resolved shadowed deployed retired adopted completed done"
WELL: Final = frozenset(_WELL.split(" "))
MARKS: Final = {"done": "✓", "cured": "✓", "completed": "✓", "failed": "✗", "not_cured": "✗", "shadowed": "·"}


def watch(session: Session, path: str, timeout: float) -> None:
    """Follow it to its end, show that, and end botctl where it ended badly or goes on for longer."""
    view: View | None = None
    with _shown(session) as show:
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
    if view["status"] not in WELL:
        raise click.exceptions.Exit(Exit.failed)


class _Screen:
    """Prints each step once, when it has ended, and moves the bar."""

    def __init__(self, session: Session, bar: Progress | None) -> None:
        self._session, self._bar = session, bar
        self._task = bar.add_task("", total=None) if bar is not None else None
        self._told: set[tuple[str, str]] = set()

    def __call__(self, view: View) -> None:
        for step in steps(view):
            key = (str(step["name"]), str(step["status"]))
            if step.get("finishedAt") and key not in self._told:
                self._told.add(key)
                self._line(step_line(step))
        held = str(view["reason"]) if view["status"] == "blocked" else ""
        if held and (held, "") not in self._told:
            self._told.add((held, ""))
            self._line(Text(f"⏸ waits: {clean(held)}", style="yellow"))
        if self._bar is not None and self._task is not None:
            percent = view.get("percent")
            total = None if percent is None else 100
            self._bar.update(self._task, description=at(view), total=total, completed=percent or 0)

    def _line(self, text: Text) -> None:
        (self._bar.console if self._bar is not None else self._session.out).print(text)


@contextmanager
def _shown(session: Session) -> Iterator[Any]:
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
    """What was done, in order; a recovery's tiers are steps too, and so are a rollout's bots."""
    tiers = [{**one, "name": one["tier"], "status": one["outcome"]} for one in view.get("attempts") or []]
    found = view.get("steps") or view.get("bots") or []
    named = [{**one, "name": one.get("name") or one.get("bot")} for one in found if isinstance(one, dict)]
    return sorted([*named, *tiers], key=lambda one: str(one.get("startedAt") or "~"))


def step_line(step: Row) -> Text:
    mark = MARKS.get(str(step["status"]), "·")
    line = Text.assemble(f"{mark} ", (f"{clean(step['name']):<12}", "bold"), f" {lasted(step):>7}")
    detail = step.get("detail") or step.get("reason")
    if detail:
        line.append(f"  {clean(detail)}", style="dim")
    return line


def at(view: Mapping[str, Any]) -> str:
    """Where it is, in a few words: `my-bot: healthy, about 40s left`."""
    name = view.get("botName") or view.get("botId") or view.get("rolloutId") or ""
    now = next((one["name"] for one in reversed(steps(view)) if not one.get("finishedAt")), view["status"])
    left = view.get("estimatedSeconds")
    about = f", about {duration(left)} left" if isinstance(left, int | float) and left > 0 else ""
    return clean(f"{name}: {now}{about}")
