"""The progress of a deployment: its share that is done, and the time it still takes, by earlier ones."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Final

from remediator.model import Run, Step
from remediator.store.transaction import Transaction

# Seconds a step takes, by kind of run and in the order they are made, until there is something to learn from.
DEFAULT_SECONDS: Final[Mapping[str, Mapping[str, float]]] = {
    "deploy": {"token": 1, "image": 1, "launch": 3, "running": 20, "healthy": 150, "registered": 2},
    "redeploy": {
        "plan": 0,
        "reserved": 1,
        "image": 1,
        "launch": 3,
        "running": 20,
        "healthy": 150,
        "stopped": 45,
        "activated": 15,
        "moved": 2,
        "soaked": 300,
        "kept": 1,
    },
    "retire": {
        "asked": 0,
        "stopped": 45,
        "snapshot": 2,
        "snapshot complete": 180,
        "terminated": 2,
        "address released": 1,
        "token deleted": 1,
    },
}
MOST: Final = 0.95  # of its expected time: more a step that is not over cannot claim
ENOUGH: Final = 20  # of the newest runs of a kind
WENT_WELL: Final = ("deployed", "retired", "adopted")  # statuses


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a run."""

    percent: int
    seconds: float | None  # until the end; None where nobody can say


def learn(kind: str, past: Sequence[Iterable[Step]]) -> dict[str, float]:
    """Return the seconds to expect of each step: its median over runs of that kind that went well."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for steps in past:
        for step in steps:
            if step.finished_at is not None:
                seconds[step.name].append(step.finished_at - step.intended_at)
    learned = {name: median(times) for name, times in seconds.items() if 2 * len(times) >= len(past)}
    return learned or dict(DEFAULT_SECONDS.get(kind, {}))


def progress(run: Run, steps: Sequence[Step], expected: Mapping[str, float], now: float) -> Progress:
    """Return how far the run is; `expected`: seconds by name of a step. The seconds of its plan go first."""
    expected = {**expected, **_planned(steps)}
    begun = {step.name: step for step in steps}
    names = list(expected)
    reached = max((names.index(name) for name in begun if name in expected), default=0)
    # What was passed over is not made in this run.
    left = {name: expected[name] for name in names if name in begun or names.index(name) >= reached}
    total, done = sum(left.values()), 0.0
    for name, seconds in left.items():
        step = begun.get(name)
        if step is not None and step.state == "done":
            done += seconds
        elif step is not None and step.state == "intended":
            done += min(now - step.intended_at, MOST * seconds)
    share = int(100 * done / (total or 1) + 1e-9)
    failing = any(step.state == "failed" for step in steps)
    if run.finished_at is not None:
        return Progress(min(share, 99) if failing or run.status == "failed" else 100, None)
    return Progress(min(share, 99), None if failing or not left else max(total - done, 0.0))


async def expected_seconds(tx: Transaction, kind: str) -> dict[str, float]:
    """Return the seconds to expect of each step of such a run, by its name and in order."""
    steps = await tx.steps_of_recent_runs(kind, WENT_WELL, ENOUGH)
    return learn(kind, [list(of_run) for _, of_run in groupby(steps, key=lambda step: step.run_id)])


def _planned(steps: Iterable[Step]) -> dict[str, float]:
    """Return the seconds of steps that the run's own plan says."""
    plan = next((step.request for step in steps if step.name == "plan"), {})
    return {"soaked": plan["soak"]} if "soak" in plan else {}
