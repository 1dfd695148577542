"""A seed as a world: its size, its settings, and what goes wrong when. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from sandbox.simulator.scaling_groups import Scaling, scaling
from sandbox.simulator.simulated_aws import How, Trouble
from sandbox.simulator.world import CuredBy, Kind

KINDS: Final[tuple[Kind, ...]] = ("die", "hang", "slow", "error")
CURES: Final[tuple[CuredBy, ...]] = (
    "restart", "restart", "restart", "reboot", "reboot", "redeploy", "redeploy", "nothing",
)  # fmt: skip
WORK_KINDS: Final[tuple[Kind, ...]] = ("deaf", "mute", "stuck")
WORK_SHARE: Final = 0.25  # of the seeds
HOWS: Final[tuple[How, ...]] = ("throttled", "denied", "capacity", "lost answer", "lost request", "delay")


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes wrong, or that a person does. `at`: seconds of the virtual clock."""

    at: float
    kind: str
    subject: int = 0  # number of the bot or the replica, modulo how many there are
    seconds: float = 0
    detail: Any = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is drawn for a seed before its world begins."""

    bots: int
    replicas: int
    alertmanagers: int  # Alertmanagers
    settings: dict[str, Any]
    until: float  # faults begin before then
    incidents: tuple[Incident, ...]
    troubles: tuple[Trouble, ...]
    skews: tuple[float, ...]
    prometheus_skew: float
    boot_seconds: tuple[float, float]
    start_seconds: tuple[float, float]
    two_alerts: bool  # for each illness
    delivery_faults: float  # share of the webhooks that are lost, doubled or late
    answers: tuple[str, ...]  # of people to requests for approval, one after the other
    scaling: Scaling | None
    works: bool  # bots may be deaf, mute or stuck


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
        "queue_looks": False,  # there is no Telegram here
        "modes": modes[drawn] if mode is None else [] if mode == "auto" else ["*=shadow"],
    }


@dataclass(frozen=True, slots=True)
class _Possible:
    """A kind of incident: how likely it is in a world, how often and for how many seconds it comes then."""

    kind: str
    probability: float
    most: int
    seconds: tuple[float, float] = (0, 0)
    detail: Callable[[Random], Any] = lambda _: None


def _strike(random: Random) -> tuple[str, int]:
    points = ["before commit", "after commit", "before effect", "after effect"]
    return random.choice(points), random.randint(1, 6)


def _fault(random: Random) -> tuple[Kind, CuredBy]:
    return random.choice(KINDS), random.choice(CURES)


POSSIBLE: Final = (
    _Possible("heal", 0.3, 2),
    _Possible("crash", 0.6, 2, (1, 60)),
    _Possible("strike", 0.5, 3, (1, 40), _strike),
    _Possible("freeze", 0.4, 2, (3, 90)),
    _Possible("stall", 0.5, 3, (25, 90)),
    _Possible("store broken", 0.15, 1, (5, 60), lambda random: random.choice([0.2, 1.0])),
    _Possible("prometheus down", 0.15, 1, (20, 400)),
    _Possible("silence", 0.15, 1, (30, 200)),
    _Possible("hold", 0.2, 2, (20, 200), lambda random: random.choice(["fleet", "bot", "template"])),
    _Possible("cancel", 0.15, 2),
    _Possible("recover", 0.2, 2, detail=lambda random: random.choice(["restart", "reboot", "redeploy"])),
    _Possible("deploy", 0.15, 2),
    _Possible("clear", 0.15, 2),
)


def _incidents(random: Random, bots: int, replicas: int, until: float, focus: list[int]) -> list[Incident]:
    """Draw what happens. Most of it befalls those in `focus`: faults that never meet find nothing."""
    incidents: list[Incident] = []

    def chance(probability: float) -> bool:
        return random.random() < probability

    def draw_subject() -> int:
        return focus[random.randrange(len(focus))] if chance(0.7) else random.randrange(1000)

    def draw(possible: _Possible) -> None:
        for _ in range(random.randint(0, possible.most)):
            detail = possible.detail(random)
            at, subject = random.uniform(0, until), draw_subject()
            seconds = random.uniform(*possible.seconds)
            incidents.append(Incident(at, possible.kind, subject, seconds, detail))

    incidents.append(Incident(random.uniform(0, 60), "fault", random.randrange(1000), 0, _fault(random)))
    draw(_Possible("fault", 1, min(1 + bots // 3, 8), detail=_fault))
    if chance(0.1):
        at, fault = random.uniform(0, until), _fault(random)
        for bot in range(bots):
            if chance(0.7):
                incidents.append(Incident(at + random.uniform(0, 5), "fault", bot, 0, fault))
    for possible in POSSIBLE:
        if (possible.kind != "stall" or replicas > 1) and chance(possible.probability):
            draw(possible)
    return incidents


def _not_working(seed: int, until: float) -> list[Incident]:
    """Draw bots that answer and do not work, and their provider's trouble; [] in most worlds.

    Drawn apart from the plan: every other draw of a seed is what it was without.
    """
    random = Random(f"work of {seed}")  # noqa: S311 -- repeatable
    if random.random() >= WORK_SHARE:
        return []
    incidents = [
        Incident(
            random.uniform(0, until),
            "fault",
            random.randrange(1000),
            0,
            (random.choice(WORK_KINDS), random.choice(CURES)),
        )
        for _ in range(random.choice([1, 2, 3]))
    ]
    if random.random() < 0.5:
        at, seconds = random.uniform(0, until), random.uniform(60, 300)
        incidents.append(Incident(at, "provider down", 0, seconds))
    return incidents


def plan(seed: int, mode: str | None = None) -> Plan:
    """Draw the plan of a seed. `mode` overrides every tier's; nothing scales then, so that two compare."""
    random = Random(seed)  # noqa: S311 -- a simulation wants to be repeatable
    bots, replicas = _size(random), random.choice([1, 1, 2, 2, 3])
    until = random.uniform(120, 420)
    focus = [random.randrange(1000) for _ in range(random.choice([1, 2, 3]))]
    settings = _settings(random, mode)
    incidents = _incidents(random, bots, replicas, until, focus)
    troubles = [
        Trouble(random.choice(HOWS), at := random.uniform(0, until), at + random.uniform(5, 90), share)
        for share in random.choices([0.3, 1.0], k=random.choice([0, 1, 2, 3]))
    ]
    slow = random.choice([8.0, 20.0, 45.0])
    scales = scaling(seed, until) if mode is None else None
    if scales is not None:
        incidents += [Incident(at, kind, subject, 0, how) for kind, at, subject, how in scales.incidents]
    not_working = _not_working(seed, until)
    incidents += not_working
    return Plan(
        bots=bots,
        replicas=replicas,
        alertmanagers=random.choice([1, 1, 2]),
        settings=settings,
        until=until,
        incidents=tuple(sorted(incidents, key=lambda incident: incident.at)),
        troubles=tuple(troubles),
        skews=tuple(random.choice([0.0, 0.0, -120.0, 45.0, 3600.0]) for _ in range(20)),
        prometheus_skew=random.choice([0.0, 0.0, -3.0, 4.0, 60.0]),
        boot_seconds=(slow / 2, slow),
        start_seconds=(1.0, min(slow, 11.0)),
        two_alerts=random.random() < 0.25,
        delivery_faults=random.choice([0.0, 0.1, 0.5]),
        answers=tuple(random.choice(["approve", "deny", ""]) for _ in range(8)),
        scaling=scales,
        works=bool(not_working),
    )
