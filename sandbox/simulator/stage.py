"""A world with its replicas, before anything happens in it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any, Final

from remediator.configuration import render
from remediator.metrics import Metrics
from remediator.model import Bot
from remediator.settings import read_settings
from sandbox.simulator.alertmanager import Alerting, address
from sandbox.simulator.aws import Region, managed
from sandbox.simulator.clock import EPOCH
from sandbox.simulator.groups import Group, ScaledTemplates, Scaling, Scrapes, Where, group_of
from sandbox.simulator.growth import Growth
from sandbox.simulator.memory import MemoryDatabase
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.plan import Plan
from sandbox.simulator.replica import Replica
from sandbox.simulator.surroundings import Surroundings
from sandbox.simulator.tables import Tables
from sandbox.simulator.world import World
from templates import BUNDLED, Templates, load

ENVIRONMENTS: Final = ("production", "staging")
LARGEST: Final = 90  # a template lets at most 100 bots be


@cache
def _templates() -> Templates:
    return load(BUNDLED)


@cache
def _rendered(name: str, environment: str, template: str) -> tuple[dict[str, Any], str]:
    return render(name, environment, _templates().get(template, environment))


class Stage:
    """Bots, replicas, and the Alertmanagers between them."""

    def __init__(self, seed: int, drawn: Plan, *, trace: bool, until_first: bool) -> None:
        loop = asyncio.get_running_loop()
        self.plan, self.seed = drawn, seed
        self.until_first = until_first
        self.random = Random(seed + 1)  # noqa: S311 -- repeatable
        wanted, scaling = drawn.settings, drawn.scaling
        if scaling is not None:
            wanted = {**wanted, **scaling.settings, "modes": [*wanted["modes"], f"scale={scaling.mode}"]}
        settings = read_settings(**wanted)
        world = World(loop.time, self.random, drawn.boot_seconds, drawn.start_seconds)
        database = MemoryDatabase(lambda: EPOCH + loop.time(), alone=drawn.replicas == 1)
        self.oracle = Oracle(loop.time, settings, world, database, print_trace=trace)
        region = Region(world, self.random, list(drawn.troubles))
        self.around = Surroundings(
            world, region, database, self.oracle, settings, _templates(), Metrics("simulated"), self.random
        )
        self._register()
        if scaling is not None:
            self._scale(scaling)
        self.replicas: dict[int, Replica] = {}
        self.lives = 0
        self.alerting = Alerting(
            world,
            self.random,
            self._registry,
            self._deliver,
            drawn.prometheus_skew,
            drawn.twice_alerted,
            drawn.careless,
            drawn.watchers,
        )
        self._background: list[asyncio.Task[Any]] = []

    def _register(self) -> None:
        bots: dict[str, Bot] = {}
        names = self.around.templates.names
        for number in range(self.plan.bots):
            name, zone = f"b{number}", self.random.choice("ab")
            template, environment = self.random.choice(names), self.random.choice(ENVIRONMENTS)
            config, sha = _rendered(name, environment, template)
            machine = self.around.world.launch(name, zone, sha, managed(name, sha), at_once=True)
            known = self.random.random() < 0.9
            bots[name] = Bot(
                name,
                template,
                environment,
                "active",
                address(machine.host),
                "/health",
                "/mesh",
                machine.id,
                config,
                sha,
                machine.boot_id if known else None,
                machine.started_at if known else None,
                f"zone-{zone}",
                quarantined_at=None,
                quarantine_reason=None,
                attempts_from=0,
                created_at=EPOCH,
                updated_at=EPOCH,
            )
        self.around.database.tables = Tables(bots=bots)

    def _scale(self, scaling: Scaling) -> None:
        """The groups of some of the bots that people declared."""
        declared = Counter((bot.template, bot.environment) for bot in self.tables.bots.values())
        bots = list(self.tables.bots.values())
        groups: dict[Where, Group] = {}
        for wish in scaling.wishes:
            of = bots[wish.of % len(bots)]
            where = of.template, of.environment
            if declared[where] <= LARGEST:
                groups[where] = group_of(wish, declared[where])
        around, oracle = self.around, self.oracle
        around.region.pooled = scaling.pooled
        around.templates = ScaledTemplates(around.templates, groups)
        around.scrapes = Scrapes(around.world, groups, self._known, oracle.too_many)
        oracle.growth = Growth(around.settings, scaling.mode, groups, around.scrapes, oracle.violated)

    def _known(self) -> dict[str, tuple[Where, str]]:
        bots = self.tables.bots.values()
        return {
            bot.name: ((bot.template, bot.environment), bot.address) for bot in bots if bot.state == "active"
        }

    @property
    def tables(self) -> Tables:
        return self.around.database.tables

    def _registry(self) -> dict[str, str]:
        return {bot.name: bot.address for bot in self.tables.bots.values() if bot.state == "active"}

    def _start(self, slot: int) -> None:
        self.lives += 1
        skew = self.plan.skews[self.lives % len(self.plan.skews)]
        replica = Replica(f"replica-{slot}.{self.lives}", self.around, skew)
        self.replicas[slot] = replica
        self.oracle.note(f"{replica.name} starts")
        replica.spawn(replica.live())

    def _any(self) -> Replica:
        return self.random.choice(list(self.replicas.values()))

    async def _deliver(self, payload: dict[str, Any]) -> int:
        replica = self._any()
        self.oracle.note(f"webhook to {replica.name}: {_said(payload)}")
        answer = await replica.call("alerts", payload)
        if answer // 100 == 2:
            self._acknowledged(payload)
        return answer

    def _acknowledged(self, payload: Mapping[str, Any]) -> None:
        """What got a 2xx is kept; a firing alert of a bot of ours belongs to a run, or says why not."""
        tables = self.tables
        kept = {alert.fingerprint: alert for alert in tables.alerts.values()}
        for member in payload["alerts"]:
            alert = kept.get(member["fingerprint"])
            if alert is None:
                self.oracle.violated(f"an acknowledged alert was not kept: {member['labels']}")
            elif alert.bot not in tables.bots and alert.ignored == "unknown_bot":
                continue  # it was retired meanwhile
            elif alert.status == "firing" and alert.run_id is None and alert.ignored != "quarantined":
                self.oracle.violated(f"an acknowledged alert of {alert.bot} leads to no run")


def _said(payload: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['labels']['bot']} {one['status']}" for one in payload["alerts"])
