"""Groups that scale in some of the worlds, and what Prometheus says of their bots.

Which seeds, and how, is drawn apart from the plan: every other draw of a seed is what it was without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, Final, Protocol, cast

from remediator.gates import Mode
from remediator.prometheus import Prometheus, PrometheusError
from remediator.scaling_look import EVENT_LOOP
from sandbox.simulator.world import World
from templates import BotTemplate, Templates

SHARE: Final = 0.25  # of the seeds
SCRAPED_EVERY: Final = 10.0
# What befalls a replica that scales. "daze": it is frozen after it has seen that, for so many seconds.
BEFALLS: Final[Mapping[str, Callable[[Random], Any]]] = {
    "daze": lambda random: (random.choice(["look", "token"]), random.uniform(5, 60)),
    "strike move": lambda random: random.choice(["before commit", "after commit"]),
}
Where = tuple[str, str]  # template, environment


@dataclass(frozen=True, slots=True)
class Wish:
    """How the group of that declared bot scales; `least` and `most` count from how many people declared."""

    of: int
    least: int
    most: int
    target: float
    work: tuple[tuple[float, float], ...]  # from when, how many bots' worth for each that was declared


@dataclass(frozen=True, slots=True)
class Scaling:
    wishes: tuple[Wish, ...]
    mode: Mode
    pooled: int
    settings: Mapping[str, Any]
    happenings: tuple[tuple[str, float, int, Any], ...]  # what of BEFALLS, when, to which replica, how


@dataclass(frozen=True, slots=True)
class Group:
    """A wish, once it is known how many people declared. `work` is in bots' worth."""

    min: int
    max: int
    target: float
    work: tuple[tuple[float, float], ...]


def scaling(seed: int, until: float) -> Scaling | None:
    """None in most worlds. Pure."""
    random = Random(f"growth of {seed}")  # noqa: S311 -- repeatable
    if random.random() >= SHARE:
        return None
    mode = random.choices(("auto", "approve", "shadow"), (8, 1, 1))[0]
    patience = random.choice([15.0, 30.0])
    return Scaling(
        tuple(_wish(random, until) for _ in range(random.choice([1, 1, 2]))),
        cast(Mode, mode),
        random.choice([1, 4, 4, 4]),
        {
            "scaling_interval": random.choice([5.0, 8.0]),
            "scaling_patience": patience,
            "scaling_calm": patience + random.choice([15.0, 45.0]),
        },
        tuple(
            (what, random.uniform(0, until), random.randrange(1000), how(random))
            for what, how in BEFALLS.items()
            for _ in range(random.choice([0, 0, 1, 2]))
        ),
    )


def group_of(wish: Wish, declared: int) -> Group:
    least = max(1, declared + wish.least)
    work = tuple((at, share * declared) for at, share in wish.work)
    return Group(least, max(least, declared + wish.most), wish.target, work)


def _wish(random: Random, until: float) -> Wish:
    most = random.choice([0, 1, 1, 2, 3])
    times = sorted(random.uniform(0, until) for _ in range(random.choice([1, 2, 3])))
    work = [(at, random.choice([0.05, 0.1, 0.3, 0.5, 0.8, 1.2])) for at in (0.0, *times)]
    if random.random() < 0.5:  # what was added is no longer needed, while faults go on
        work.append((random.uniform(0.5, 0.8) * until, 0.05))
    return Wish(
        random.randrange(1000), random.choice([-1, 0, 0, 1]), most, random.uniform(0.3, 0.85), tuple(work)
    )


class ScaledTemplates(Templates):
    """Those templates, with groups that scale."""

    def __init__(self, real: Templates, groups: Mapping[Where, Group]) -> None:
        self._real, self._groups = real, groups
        self.get = cache(self._get)  # type: ignore[method-assign]  # a look at the groups asks for all of them

    @property
    def names(self) -> list[str]:
        return self._real.names

    def _get(self, name: str, environment: str) -> BotTemplate:
        found, group = self._real.get(name, environment), self._groups.get((name, environment))
        if group is None:
            return found
        of = {"min": group.min, "max": group.max, "target": group.target}
        return BotTemplate.model_validate({**found.model_dump(exclude_none=True), "scaling": of})


@dataclass
class Scrapes:
    """What Prometheus has: each bot as it was at the last scrape, while it is up."""

    world: World
    groups: Mapping[Where, Group]
    registry: Callable[[], Mapping[str, tuple[Where, str]]]  # bot → its group, its address
    over_limit: Callable[[list[str], int], bool]  # the ill, of so many: as the oracle has it
    at: float = float("-inf")
    over_since: float | None = None  # all scrapes since then saw too many ill
    scores: dict[str, float] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)  # replica → when it was last told

    def fresh(self) -> None:
        now = self.world.time()
        if now - self.at < SCRAPED_EVERY:
            return
        self.at, known = now, self.registry()
        self.scores = {bot: 100.0 if self.world.look(at).healthy else 0.0 for bot, (_, at) in known.items()}
        self.loads = {}
        for where, group in self.groups.items():
            well = [bot for bot, (of, _) in known.items() if of == where and self.scores[bot]]
            self.loads |= dict.fromkeys(well, min(1.0, self.work(where, group) / max(1, len(well))))
        if not self.over_limit([bot for bot, score in self.scores.items() if not score], len(known)):
            self.over_since = None
        elif self.over_since is None:
            self.over_since = now

    def work(self, where: Where, group: Group) -> float:
        return max((at, much) for at, much in group.work if at <= self.world.time())[1]


class Eyes(Protocol):
    """The replica that asks."""

    name: str

    async def reach(self) -> None: ...
    def saw(self, what: str) -> None: ...


@dataclass(frozen=True)
class SimulatedPrometheus(Prometheus):
    """Answers what scaling asks; `blind` says why it cannot be reached."""

    scrapes: Scrapes
    eyes: Eyes
    blind: Callable[[], str]

    async def scores(self) -> dict[str, float]:
        await self._answer()
        self.scrapes.asked[self.eyes.name] = self.scrapes.world.time()
        return dict(self.scrapes.scores)

    async def by_bot(self, expression: str, at: float | None = None) -> dict[str, float]:
        await self._answer()
        if expression != EVENT_LOOP:
            return {}
        self.eyes.saw("look")
        return dict(self.scrapes.loads)

    async def _answer(self) -> None:
        await self.eyes.reach()
        if self.blind():
            raise PrometheusError(self.blind())
        self.scrapes.fresh()
