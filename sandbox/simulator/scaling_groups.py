"""Groups that scale in some of the worlds, and what Prometheus says of their bots.

Which seeds, and how, is drawn apart from the plan: every other draw of a seed is what it was without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final, Protocol, cast

from remediator.model import Mode
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.scaling.observation import EVENT_LOOP
from sandbox.simulator.world import World
from templates import BotTemplate, Templates

SHARE: Final = 0.25  # of the seeds
SCRAPED_EVERY: Final = 10.0
# What befalls a replica that scales. "daze": it is frozen after it has read that, for so many seconds.
INCIDENTS: Final[Mapping[str, Callable[[Random], Any]]] = {
    "daze": lambda random: (random.choice(["look", "token"]), random.uniform(5, 60)),
    "strike move": lambda random: random.choice(["before commit", "after commit"]),
}
GroupKey = tuple[str, str]  # template, environment


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How the group of a bot scales; `min` and `max` count from the number of bots that people declared."""

    bot: int  # its number
    min: int
    max: int
    target: float
    work: tuple[tuple[float, float], ...]  # from when, how many bots' worth for each that was declared


@dataclass(frozen=True, slots=True)
class Scaling:
    """What is drawn for a world whose groups scale."""

    groups: tuple[GroupPlan, ...]
    mode: Mode
    pooled: int
    settings: Mapping[str, Any]
    incidents: tuple[tuple[str, float, int, Any], ...]  # which of INCIDENTS, when, to which replica, how


@dataclass(frozen=True, slots=True)
class Group:
    """A group that scales, in numbers of bots; `work` is in bots' worth."""

    min: int
    max: int
    target: float
    work: tuple[tuple[float, float], ...]


def scaling(seed: int, until: float) -> Scaling | None:
    """Draw how groups scale; None in most worlds. Pure."""
    random = Random(f"growth of {seed}")  # noqa: S311 -- repeatable
    if random.random() >= SHARE:
        return None
    mode = random.choices(("auto", "approve", "shadow"), (8, 1, 1))[0]
    patience = random.choice([15.0, 30.0])
    return Scaling(
        tuple(_group_plan(random, until) for _ in range(random.choice([1, 1, 2]))),
        cast(Mode, mode),
        random.choice([1, 4, 4, 4]),
        {
            "scaling_interval": random.choice([5.0, 8.0]),
            "scaling_patience": patience,
            "scaling_calm": patience + random.choice([15.0, 45.0]),
        },
        tuple(
            (kind, random.uniform(0, until), random.randrange(1000), draw(random))
            for kind, draw in INCIDENTS.items()
            for _ in range(random.choice([0, 0, 1, 2]))
        ),
    )


def group_of(plan: GroupPlan, declared: int) -> Group:
    """Return the group of which people declared so many bots."""
    least = max(1, declared + plan.min)
    work = tuple((at, share * declared) for at, share in plan.work)
    return Group(least, max(least, declared + plan.max), plan.target, work)


def _group_plan(random: Random, until: float) -> GroupPlan:
    most = random.choice([0, 1, 1, 2, 3])
    times = sorted(random.uniform(0, until) for _ in range(random.choice([1, 2, 3])))
    work = [(at, random.choice([0.05, 0.1, 0.3, 0.5, 0.8, 1.2])) for at in (0.0, *times)]
    if random.random() < 0.5:  # what was added is no longer needed, while faults go on
        work.append((random.uniform(0.5, 0.8) * until, 0.05))
    return GroupPlan(
        random.randrange(1000), random.choice([-1, 0, 0, 1]), most, random.uniform(0.3, 0.85), tuple(work)
    )


class ScaledTemplates(Templates):
    """The real templates, with groups that scale."""

    def __init__(self, real: Templates, groups: Mapping[GroupKey, Group]) -> None:
        self._real, self._groups = real, groups
        self.get = cache(self._get)  # type: ignore[method-assign]  # to scale is to ask for all of them

    @property
    def names(self) -> list[str]:
        return self._real.names

    def _get(self, name: str, environment: str) -> BotTemplate:
        template, group = self._real.get(name, environment), self._groups.get((name, environment))
        if group is None:
            return template
        scaling = {"min": group.min, "max": group.max, "target": group.target}
        return BotTemplate.model_validate({**template.model_dump(exclude_none=True), "scaling": scaling})


@dataclass
class Scrapes:
    """What Prometheus has: each bot as it was at the last scrape, while it is up."""

    world: World
    groups: Mapping[GroupKey, Group]
    targets: Callable[[], Mapping[str, tuple[GroupKey, str]]]  # bot → its group, its address
    is_storm: Callable[[list[str], int], bool]  # the ill, of so many: as the oracle has it
    scraped_at: float = float("-inf")
    over_since: float | None = None  # all scrapes since then saw too many ill
    scores: dict[str, float] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)
    read_at: dict[str, float] = field(default_factory=dict)  # by replica

    def refresh(self) -> None:
        """Scrape all bots, if it is time to."""
        now = self.world.time()
        if now - self.scraped_at < SCRAPED_EVERY:
            return
        self.scraped_at, targets = now, self.targets()
        healthy = {bot for bot, (_, address) in targets.items() if self.world.observe(address).healthy}
        self.scores = {bot: 100.0 if bot in healthy else 0.0 for bot in targets}
        self.loads = {}
        for key, group in self.groups.items():
            serving = [bot for bot, (of, _) in targets.items() if of == key and bot in healthy]
            load = min(1.0, self.work(key, group) / max(1, len(serving)))
            self.loads |= dict.fromkeys(serving, load)
        if not self.is_storm([bot for bot in targets if bot not in healthy], len(targets)):
            self.over_since = None
        elif self.over_since is None:
            self.over_since = now

    def work(self, key: GroupKey, group: Group) -> float:
        """Return how many bots' worth of work the group has now."""
        return max((at, bots) for at, bots in group.work if at <= self.world.time())[1]


class Reader(Protocol):
    """The replica that reads."""

    name: str

    async def reach(self) -> None: ...
    def after_read(self, subject: str) -> None: ...


@dataclass(frozen=True)
class SimulatedPrometheus(Prometheus):
    """Answers what scaling asks; `problem` says why it cannot be reached."""

    scrapes: Scrapes
    replica: Reader
    problem: Callable[[], str]

    async def scores(self) -> dict[str, float]:
        await self._answer()
        self.scrapes.read_at[self.replica.name] = self.scrapes.world.time()
        return dict(self.scrapes.scores)

    async def by_bot(self, expression: str, at: float | None = None) -> dict[str, float]:
        await self._answer()
        if expression != EVENT_LOOP:
            return {}
        self.replica.after_read("look")
        return dict(self.scrapes.loads)

    async def _answer(self) -> None:
        await self.replica.reach()
        if problem := self.problem():
            raise PrometheusError(problem)
        self.scrapes.refresh()
