"""One seed: the world is made, everything happens, faults stop, and what must hold is asked."""

import asyncio
import random as randomness
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, Final

from remediator.deploy import render
from remediator.metrics import Metrics
from remediator.model import Bot
from remediator.settings import read_settings
from sandbox.simulator import clock
from sandbox.simulator.alertmanager import REPEAT, Alerting, address
from sandbox.simulator.aws import Region, managed
from sandbox.simulator.clock import EPOCH, NothingHappensError, VirtualLoop
from sandbox.simulator.memory import MemoryDatabase
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.plan import Happening, Plan, plan
from sandbox.simulator.replica import Replica, Surroundings, remember_tasks
from sandbox.simulator.tables import Tables
from sandbox.simulator.world import World
from templates import BUNDLED, Templates, load

CALM: Final = 450.0  # seconds in which the ladder may finish what can be cured
END: Final = 900.0  # seconds within which every run must be over once every bot is well
ENVIRONMENTS: Final = ("production", "staging")


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    events: int
    violation: str
    trace: tuple[str, ...]
    first: tuple[float, str, str] | None


@cache
def _templates() -> Templates:
    return load(BUNDLED)


@cache
def _rendered(name: str, environment: str, template: str) -> tuple[dict[str, Any], str]:
    return render(name, environment, _templates().get(template, environment))


class Simulation:
    def __init__(self, seed: int, drawn: Plan, *, trace: bool, until_first: bool) -> None:
        loop = asyncio.get_running_loop()
        self.plan = drawn
        self.until_first = until_first
        self.random = Random(seed + 1)  # noqa: S311 -- repeatable
        settings = read_settings(**drawn.settings)
        world = World(loop.time, self.random, drawn.boot_seconds, drawn.start_seconds)
        database = MemoryDatabase(lambda: EPOCH + loop.time(), alone=drawn.replicas == 1)
        self.oracle = Oracle(loop.time, settings, world, database, print_trace=trace)
        region = Region(world, self.random, list(drawn.troubles))
        self.around = Surroundings(
            world, region, database, self.oracle, settings, _templates(), Metrics("simulated"), self.random
        )
        self._register()
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
            elif alert.status == "firing" and alert.run_id is None and alert.ignored != "quarantined":
                self.oracle.violated(f"an acknowledged alert of {alert.bot} leads to no run")

    # what goes wrong

    async def _happen(self, one: Happening) -> None:
        names = sorted(self.tables.bots)
        bot, slot = names[one.who % len(names)], one.who % self.plan.replicas
        self.oracle.note(f"{one.what} {bot if one.what in _OF_BOTS else slot} {one.detail or ''}")
        world, later = self.around.world, asyncio.get_running_loop().call_later
        match one.what:
            case "fault":
                world.break_bot(bot, *one.detail)
            case "heal":
                world.faults.pop(bot, None)
            case "crash":
                self.replicas[slot].die()
            case "strike":
                self.replicas[slot].last_words = one.detail
            case "freeze":
                frozen = self.replicas[slot]
                frozen.freeze()
                later(one.seconds, frozen.thaw)
            case "stall":
                self.replicas[slot].stall = one.seconds
            case "store broken":
                self.around.store_broken = one.detail
                later(one.seconds, self._mend_store)
            case "prometheus down":
                self.alerting.down, self.around.blind = True, "Prometheus cannot be reached"
                later(one.seconds, self._see)
            case "silence":
                matcher = {"name": "bot", "value": bot, "isRegex": False, "isEqual": True}
                self.around.silences.append({"matchers": [matcher], "createdBy": "ann", "comment": "work"})
                self.alerting.silenced.add(bot)
                later(one.seconds, self._speak)
            case _:
                await self._speaks(one, bot)

    def _mend_store(self) -> None:
        self.around.store_broken = 0

    def _see(self) -> None:
        self.alerting.down, self.around.blind = False, ""

    def _speak(self) -> None:
        self.around.silences.clear()
        self.alerting.silenced.clear()

    async def _speaks(self, one: Happening, bot: str) -> None:
        """A person does something through the API."""
        replica = self._any()
        match one.what:
            case "hold":
                name = {"fleet": "", "bot": bot, "template": self.tables.bots[bot].template}[one.detail]
                await replica.call("add_hold", {"scope": one.detail, "name": name, "reason": "work"})
                await asyncio.sleep(one.seconds)
                await self._lift_holds()
            case "cancel":
                for run in [run for run in self.tables.active.values() if run.startswith("rec-")][:1]:
                    await replica.call("cancel", params={"id": run})
            case "recover":
                await replica.call("recover", {"method": one.detail}, {"id": bot})
            case "clear":
                await replica.call("clear_quarantine", params={"bot": bot})
            case "deploy":
                asked = {
                    "botName": f"new-{one.who}",
                    "botType": self.around.templates.names[0],
                    "telegramToken": "12:abc",
                    "environment": "staging",
                }
                await replica.call("deploy", asked, patience=60)

    async def _lift_holds(self) -> None:
        for number in list(self.tables.holds):
            await self._any().call("lift_hold", params={"id": str(number)})

    async def _answer(self) -> None:
        """A person reads what is asked, and says yes, no or nothing."""
        said: dict[tuple[str, str], None] = {}
        while True:
            await asyncio.sleep(20)
            for key in [key for key in self.tables.approvals if key not in said]:
                word = self.plan.answers[len(said) % len(self.plan.answers)]
                said[key] = None
                if word:
                    await self._any().call(word, params={"id": key[0]})

    async def _restart_the_dead(self) -> None:
        while True:
            await asyncio.sleep(7)
            for slot, replica in list(self.replicas.items()):
                if replica.dead:
                    self._start(slot)

    # from the first event to the last

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for slot in range(self.plan.replicas):
            self._start(slot)
        watchers = [self.alerting.watch(7.0 * number) for number in range(self.plan.watchers)]
        for work in (self.alerting.evaluate(), *watchers, self._answer(), self._restart_the_dead()):
            self._background.append(loop.create_task(work))
        for one in self.plan.happenings:
            await self._pass(one.at - loop.time())
            if self._over:
                return
            self._background.append(loop.create_task(self._happen(one)))
        await self._pass(self.plan.until - loop.time())
        if not self._over:
            await self._calm()

    @property
    def _over(self) -> bool:
        return bool(self.oracle.found) or (self.until_first and self.oracle.first is not None)

    async def _pass(self, seconds: float) -> None:
        """Time goes by, until then or until a violation."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._over and (left := until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 -- time ends it
            await asyncio.sleep(min(left, 20))

    async def _calm(self) -> None:
        self.oracle.note("faults stop")
        self.around.region.troubles.clear()
        self._mend_store()
        self._see()
        self._speak()
        for replica in self.replicas.values():
            replica.thaw()
            replica.last_words, replica.stall = None, 0
        self.alerting.careless, self.alerting.refused = 0, ""
        await self._pass(30)
        await self._lift_holds()
        until = asyncio.get_running_loop().time() + CALM
        while not self._over and asyncio.get_running_loop().time() < until and not self._settled():
            await self._pass(20)
        if not self._over:
            self._nothing_forgotten()
        self.oracle.note("every bot is well")
        self.around.world.faults.clear()
        until = asyncio.get_running_loop().time() + END
        while not self._over and asyncio.get_running_loop().time() < until and self.tables.active:
            await self._pass(10)
        if not self._over:
            await self._pass(20)
            self.oracle.ended()

    def _ill(self) -> list[str]:
        return [bot for bot, at in self._registry().items() if not self.around.world.look(at).healthy]

    def _settled(self) -> bool:
        left = [bot for bot in self._ill() if self.tables.bots[bot].quarantined_at is None]
        return not left and not self.tables.active

    def _nothing_forgotten(self) -> None:
        """An ill bot whose alert was acknowledged is in a run, or was until a moment ago, or a person's."""
        if self.alerting.refused:
            self.oracle.violated(f"webhooks are refused though nothing is broken: {self.alerting.refused}")
        now = EPOCH + asyncio.get_running_loop().time()
        lately = self.around.settings.relapse_after + 2 * REPEAT
        for bot in self._ill():
            acknowledged = any(
                one.firing and one.acknowledged and now - one.started > lately
                for (of, _), one in self.alerting.episodes.items()
                if of == bot
            )
            if not acknowledged or bot in self.tables.active:
                continue
            ended = max(
                (run.finished_at or 0 for run in self.tables.runs.values() if run.bot == bot), default=0
            )
            if self.tables.bots[bot].quarantined_at is None and now - ended > lately:
                self.oracle.violated(f"{bot} is ill, its alert was acknowledged, and nothing is done")


_OF_BOTS: Final = frozenset(("fault", "heal", "silence", "hold", "recover", "clear", "deploy"))


def _said(payload: Mapping[str, Any]) -> str:
    return ", ".join(f"{one['labels']['bot']} {one['status']}" for one in payload["alerts"])


def simulate(
    seed: int,
    *,
    mode: str | None = None,
    bots: int | None = None,
    trace: bool = False,
    until_first: bool = False,
) -> Result:
    """Runs that seed to its end, or to its first violation."""
    drawn = plan(seed, mode)
    drawn = replace(drawn, bots=bots or drawn.bots)
    randomness.seed(seed)  # the prober's sample of a large fleet
    loop = VirtualLoop()
    loop.set_task_factory(remember_tasks)
    loop.set_exception_handler(lambda _loop, _context: None)
    made: list[Simulation] = []

    async def main() -> None:
        made.append(Simulation(seed, drawn, trace=trace, until_first=until_first))
        await made[0].run()

    try:
        clock.run(main(), loop)
    except NothingHappensError:
        made[0].oracle.violated("everything waits for something that never comes")
    oracle = made[0].oracle
    return Result(seed, oracle.events, oracle.found, tuple(oracle.trace), oracle.first)


def check(seed: int, *, trace: bool = False) -> Result:
    """That seed; and for one in ten, whether shadow decides first what auto does."""
    result = simulate(seed, trace=trace)
    if result.violation or seed % 10:
        return result
    auto, shadow = (simulate(seed, mode=mode, until_first=True) for mode in ("auto", "shadow"))
    events = result.events + auto.events + shadow.events
    if auto.first != shadow.first:
        why = f"auto's first decision was {auto.first}, shadow's {shadow.first}"
        return Result(seed, events, why, shadow.trace, None)
    return Result(seed, events, auto.violation or shadow.violation, shadow.trace, result.first)
