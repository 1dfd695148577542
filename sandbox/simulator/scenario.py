"""A world with its replicas, before anything happens in it."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any, Final

from remediator.configuration.rendering import render
from remediator.metrics import Metrics
from remediator.model import Bot
from remediator.settings import read_settings
from sandbox.simulator.alertmanager import Alerting, address
from sandbox.simulator.environment import Environment
from sandbox.simulator.memory_store import MemoryDatabase
from sandbox.simulator.memory_tables import Tables
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.plan import Plan
from sandbox.simulator.replica import Replica
from sandbox.simulator.scaling_groups import Group, GroupKey, ScaledTemplates, Scaling, Scrapes, group_of
from sandbox.simulator.scaling_oracle import ScalingOracle
from sandbox.simulator.simulated_aws import Region, managed
from sandbox.simulator.virtual_clock import EPOCH
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


class Scenario:
    """Bots, replicas, and the Alertmanagers between them."""

    def __init__(self, seed: int, drawn: Plan, *, trace: bool, until_first: bool) -> None:
        loop = asyncio.get_running_loop()
        self.plan, self.seed = drawn, seed
        self.until_first = until_first
        self.random = Random(seed + 1)  # noqa: S311 -- repeatable
        values, scaling = drawn.settings, drawn.scaling
        if scaling is not None:
            values = {**values, **scaling.settings, "modes": [*values["modes"], f"scale={scaling.mode}"]}
        settings = read_settings(**values)
        world = World(loop.time, self.random, drawn.boot_seconds, drawn.start_seconds)
        database = MemoryDatabase(lambda: EPOCH + loop.time(), alone=drawn.replicas == 1)
        self.oracle = Oracle(loop.time, settings, world, database, print_trace=trace)
        region = Region(world, self.random, list(drawn.troubles))
        self.shared = Environment(
            world, region, database, self.oracle, settings, _templates(), Metrics("simulated"), self.random
        )
        self.shared.works = drawn.works
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
            drawn.two_alerts,
            drawn.delivery_faults,
            drawn.alertmanagers,
        )
        self._background: list[asyncio.Task[Any]] = []

    def _register(self) -> None:
        bots: dict[str, Bot] = {}
        names = self.shared.templates.names
        for number in range(self.plan.bots):
            name, zone = f"b{number}", self.random.choice("ab")
            template, environment = self.random.choice(names), self.random.choice(ENVIRONMENTS)
            config, sha = _rendered(name, environment, template)
            machine = self.shared.world.launch(name, zone, sha, managed(name, sha), at_once=True)
            probed = self.random.random() < 0.9
            registered = Bot.registered(
                name,
                config,
                sha,
                overrides={},
                instance_id=machine.id,
                address=address(machine.host),
                at=EPOCH,
            )
            bots[name] = replace(
                registered,
                state="active",
                boot_id=machine.boot_id if probed else None,
                started_at=machine.started_at if probed else None,
                zone=f"zone-{zone}",
            )
        self.shared.database.tables = Tables(bots=bots)

    def _scale(self, scaling: Scaling) -> None:
        """Let the groups of some of the bots that people declared scale."""
        declared = Counter((bot.template, bot.environment) for bot in self.tables.bots.values())
        bots = list(self.tables.bots.values())
        groups: dict[GroupKey, Group] = {}
        for planned in scaling.groups:
            bot = bots[planned.bot % len(bots)]
            key = bot.template, bot.environment
            if declared[key] <= LARGEST:
                groups[key] = group_of(planned, declared[key])
        shared, oracle = self.shared, self.oracle
        shared.region.pooled = scaling.pooled
        shared.templates = ScaledTemplates(shared.templates, groups)
        shared.scrapes = Scrapes(shared.world, groups, self._targets, oracle.is_storm)
        oracle.scaling = ScalingOracle(shared.settings, scaling.mode, groups, shared.scrapes, oracle.violated)

    def _targets(self) -> dict[str, tuple[GroupKey, str]]:
        bots = self.tables.bots.values()
        return {
            bot.name: ((bot.template, bot.environment), bot.address) for bot in bots if bot.state == "active"
        }

    @property
    def tables(self) -> Tables:
        return self.shared.database.tables

    def _registry(self) -> dict[str, str]:
        return {bot.name: bot.address for bot in self.tables.bots.values() if bot.state == "active"}

    def _start(self, slot: int) -> None:
        self.lives += 1
        skew = self.plan.skews[self.lives % len(self.plan.skews)]
        replica = Replica(f"replica-{slot}.{self.lives}", self.shared, skew)
        self.replicas[slot] = replica
        self.oracle.note(f"{replica.name} starts")
        replica.spawn(replica.live())

    def _any_replica(self) -> Replica:
        return self.random.choice(list(self.replicas.values()))

    async def _deliver(self, payload: dict[str, Any]) -> int:
        """Send a webhook to one of the replicas. Return the status of its answer; 0 where there was none."""
        replica = self._any_replica()
        self.oracle.note(f"webhook to {replica.name}: {_summary(payload)}")
        answer = await replica.call("alerts", payload)
        if answer // 100 == 2:
            self._check_accepted(payload)
        return answer

    def _check_accepted(self, payload: Mapping[str, Any]) -> None:
        """Check that what got a 2xx is stored, and that a firing alert belongs to a run or says why not."""
        tables = self.tables
        stored = {alert.fingerprint: alert for alert in tables.alerts.values()}
        for member in payload["alerts"]:
            alert = stored.get(member["fingerprint"])
            if alert is None:
                self.oracle.violated(f"an acknowledged alert was not kept: {member['labels']}")
            elif alert.bot not in tables.bots and alert.ignored == "unknown_bot":
                continue  # it was retired meanwhile
            elif alert.status == "firing" and alert.run_id is None and alert.ignored != "quarantined":
                self.oracle.violated(f"an acknowledged alert of {alert.bot} leads to no run")


def _summary(payload: Mapping[str, Any]) -> str:
    return ", ".join(f"{alert['labels']['bot']} {alert['status']}" for alert in payload["alerts"])
