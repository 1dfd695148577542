"""A seed as a world: its size, its settings, and what goes wrong when. Pure."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final

from sandbox.simulator.aws import How, Trouble
from sandbox.simulator.groups import Scaling, scaling
from sandbox.simulator.world import CuredBy, Kind

KINDS: Final[tuple[Kind, ...]] = ("die", "hang", "slow", "error")
CURES: Final[tuple[CuredBy, ...]] = (
    "restart", "restart", "restart", "reboot", "reboot", "redeploy", "redeploy", "nothing",
)  # fmt: skip
HOWS: Final[tuple[How, ...]] = ("throttled", "denied", "capacity", "lost answer", "lost request", "delay")


@dataclass(frozen=True, slots=True)
class Happening:
    at: float
    what: str
    who: int = 0  # bot or replica, modulo how many there are
    seconds: float = 0
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Plan:
    bots: int
    replicas: int
    watchers: int  # Alertmanagers
    settings: dict[str, Any]
    until: float  # faults begin before then
    happenings: tuple[Happening, ...]
    troubles: tuple[Trouble, ...]
    skews: tuple[float, ...]
    prometheus_skew: float
    boot_seconds: tuple[float, float]
    start_seconds: tuple[float, float]
    twice_alerted: bool  # two alerts tell of one illness
    careless: float  # share of the webhooks that are lost, doubled or late
    answers: tuple[str, ...]  # what people say when asked, in turn
    scaling: Scaling | None


def _size(random: Random) -> int:
    draw = random.random()
    if draw < 0.0005:
        return 1000
    if draw < 0.03:
        return random.randint(13, 30)
    return random.randint(7, 12) if draw < 0.3 else random.randint(2, 6)


def _settings(random: Random, mode: str | None) -> dict[str, Any]:
    modes = {
        "auto": [],
        "approve": [random.choice(["*=approve", "redeploy=approve", "production:reboot=approve"])],
        "shadow": [random.choice(["*=shadow", "production:*=shadow"])],
    }
    drawn = random.choices(["auto", "approve", "shadow"], [8, 1.2, 0.5])[0]
    return {
        "restart_timeout": random.choice([40, 60, 90]),
        "reboot_timeout": random.choice([60, 120]),
        "redeploy_timeout": random.choice([90, 150]),
        "gate_interval": random.choice([10, 15]),
        "verify_interval": 5,
        "verify_probes": random.choice([2, 3]),
        "stability_window": random.choice([10, 20]),
        "probe_timeout": 2,
        "aws_poll": 3,
        "relapse_after": 150,
        "storm_cooldown": random.choice([30, 60]),
        "fleet_max_unhealthy_ratio": random.choice([0.3, 0.3, 0.5, 1.0]),
        "fleet_min_unhealthy": random.choice([1, 1, 2]),
        "max_in_flight": random.choice([1, 2, 3]),
        "max_in_flight_per_template": random.choice([0, 0, 1]),
        "max_in_flight_per_zone": random.choice([0, 0, 1]),
        "actions_burst": random.choice([1, 2, 10]),
        "actions_refill": random.choice([5, 30]),
        "approval_timeout": random.choice([40, 120]),
        "lease": 30,
        "modes": modes[drawn] if mode is None else [] if mode == "auto" else ["*=shadow"],
    }


def plan(seed: int, mode: str | None = None) -> Plan:
    """`mode` overrides the mode of every tier; nothing scales then, as what follows would not compare."""
    random = Random(seed)  # noqa: S311 -- a simulation wants to be repeatable
    bots, replicas = _size(random), random.choice([1, 1, 2, 2, 3])
    until = random.uniform(120, 420)
    happenings: list[Happening] = []
    focus = [random.randrange(1000) for _ in range(random.choice([1, 2, 3]))]

    def happens(what: str, most: int, seconds: tuple[float, float] = (0, 0), detail: Any = None) -> None:
        for _ in range(random.randint(0, most)):
            chosen = detail() if callable(detail) else detail
            at, who = random.uniform(0, until), whom()
            happenings.append(Happening(at, what, who, random.uniform(*seconds), chosen))

    def whom() -> int:
        """Troubles that never meet find nothing: most befall the same bots."""
        return focus[random.randrange(len(focus))] if some(0.7) else random.randrange(1000)

    def some(probability: float) -> bool:
        return random.random() < probability

    settings = _settings(random, mode)
    happenings.append(Happening(random.uniform(0, 60), "fault", random.randrange(1000), 0, _fault(random)))
    happens("fault", min(1 + bots // 3, 8), detail=lambda: _fault(random))
    if some(0.1):
        shared = random.uniform(0, until), _fault(random)
        for who in range(bots):
            if some(0.7):
                happenings.append(Happening(shared[0] + random.uniform(0, 5), "fault", who, 0, shared[1]))
    if some(0.3):
        happens("heal", 2)
    if some(0.6):
        happens("crash", 2, (1, 60))
    if some(0.5):
        wheres = ["before commit", "after commit", "before effect", "after effect"]
        happens("strike", 3, (1, 40), lambda: (random.choice(wheres), random.randint(1, 6)))
    if some(0.4):
        happens("freeze", 2, (3, 90))
    if replicas > 1 and some(0.5):
        happens("stall", 3, (25, 90))
    if some(0.15):
        happens("store broken", 1, (5, 60), lambda: random.choice([0.2, 1.0]))
    if some(0.15):
        happens("prometheus down", 1, (20, 400))
    if some(0.15):
        happens("silence", 1, (30, 200))
    if some(0.2):
        happens("hold", 2, (20, 200), lambda: random.choice(["fleet", "bot", "template"]))
    if some(0.15):
        happens("cancel", 2)
    if some(0.2):
        happens("recover", 2, detail=lambda: random.choice(["restart", "reboot", "redeploy"]))
    if some(0.15):
        happens("deploy", 2)
    if some(0.15):
        happens("clear", 2)
    troubles = [
        Trouble(random.choice(HOWS), at := random.uniform(0, until), at + random.uniform(5, 90), share)
        for share in random.choices([0.3, 1.0], k=random.choice([0, 1, 2, 3]))
    ]
    slow = random.choice([8.0, 20.0, 45.0])
    scales = scaling(seed, until) if mode is None else None
    if scales is not None:
        happenings += [Happening(at, what, who, 0, how) for what, at, who, how in scales.happenings]
    return Plan(
        bots=bots,
        replicas=replicas,
        watchers=random.choice([1, 1, 2]),
        settings=settings,
        until=until,
        happenings=tuple(sorted(happenings, key=lambda one: one.at)),
        troubles=tuple(troubles),
        skews=tuple(random.choice([0.0, 0.0, -120.0, 45.0, 3600.0]) for _ in range(20)),
        prometheus_skew=random.choice([0.0, 0.0, -3.0, 4.0, 60.0]),
        boot_seconds=(slow / 2, slow),
        start_seconds=(1.0, min(slow, 11.0)),
        twice_alerted=some(0.25),
        careless=random.choice([0.0, 0.1, 0.5]),
        answers=tuple(random.choice(["approve", "deny", ""]) for _ in range(8)),
        scaling=scales,
    )


def _fault(random: Random) -> tuple[Kind, CuredBy]:
    return random.choice(KINDS), random.choice(CURES)
