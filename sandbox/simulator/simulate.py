"""One seed: everything happens, faults stop, and what must hold is checked."""

import asyncio
import random as randomness
from dataclasses import dataclass, replace
from random import Random
from typing import Final
from unittest.mock import patch

from sandbox.simulator import virtual_clock
from sandbox.simulator.alertmanager import REPEAT
from sandbox.simulator.incidents import Incidents
from sandbox.simulator.plan import plan
from sandbox.simulator.replica import remember_tasks
from sandbox.simulator.virtual_clock import EPOCH, NothingHappensError, VirtualLoop

RECOVERY_SECONDS: Final = 450.0  # in which the ladder may finish what can be cured
SCALING_SECONDS: Final = 3600.0  # within which groups have come to rest
END_SECONDS: Final = 900.0  # within which every run must be over once every bot is well


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a seed."""

    seed: int
    events: int
    violation: str
    trace: tuple[str, ...]
    first_decision: tuple[float, str, str] | None  # when, bot, tier
    scaled_out: int = 0
    scaled_in: int = 0


class Simulation(Incidents):
    """A world from its first event to its last."""

    async def _answer(self) -> None:
        """Answer requests for approval as a person does: approve, deny or ignore each."""
        answered: dict[tuple[str, str], None] = {}
        while True:
            await asyncio.sleep(20)
            for key in [key for key in self.tables.approvals if key not in answered]:
                answer = self.plan.answers[len(answered) % len(self.plan.answers)]
                answered[key] = None
                if answer:
                    await self._any_replica().call(answer, params={"id": key[0]})

    async def _answer_groups(self) -> None:
        """Approve most of the groups that ask whether they may scale."""
        random = Random(self.seed + 2)  # noqa: S311 -- repeatable
        while True:
            await asyncio.sleep(15)
            for (template, environment), state in list(self.tables.scaled.items()):
                if state["proposed"] and not state["proposed"]["approved"] and random.random() < 0.7:
                    group = {"template": template, "environment": environment}
                    await self._any_replica().call("approve_scaling", {"by": "ann"}, group)

    async def _restart_the_dead(self) -> None:
        while True:
            await asyncio.sleep(7)
            for slot, replica in list(self.replicas.items()):
                if replica.dead:
                    self._start(slot)

    # from the first event to the last

    async def run(self) -> None:
        """Let everything happen, then let faults stop, and check what must hold at the end."""
        loop = asyncio.get_running_loop()
        for slot in range(self.plan.replicas):
            self._start(slot)
        alertmanagers = [self.alerting.watch(7.0 * number) for number in range(self.plan.alertmanagers)]
        for work in (self.alerting.evaluate(), *alertmanagers, self._answer(), self._restart_the_dead()):
            self._background.append(loop.create_task(work))
        if self.plan.scaling is not None:
            self._background.append(loop.create_task(self._answer_groups()))
        for incident in self.plan.incidents:
            await self._advance(incident.at - loop.time())
            if self._over:
                return
            self._background.append(loop.create_task(self._cause(incident)))
        await self._advance(self.plan.until - loop.time())
        if not self._over:
            await self._finish()

    @property
    def _over(self) -> bool:
        return bool(self.oracle.violation) or (self.until_first and self.oracle.first_decision is not None)

    async def _advance(self, seconds: float) -> None:
        """Let that time go by, or less where something is violated."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._over and (left := until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 -- time ends it
            await asyncio.sleep(min(left, 20))

    async def _finish(self) -> None:
        """End all faults, and check that everything recovers and every run ends."""
        self.oracle.note("faults stop")
        self.shared.region.troubles.clear()
        self._repair_store()
        self._restore_prometheus()
        self._restore_provider()
        self._lift_silences()
        for replica in self.replicas.values():
            replica.thaw()
            replica.dies_at, replica.dies_at_move = None, ""
            replica.freeze_before_request, replica.freeze_after_read = 0, ("", 0)
        self.alerting.delivery_faults, self.alerting.refused = 0, ""
        await self._advance(30)
        await self._lift_holds()
        until = asyncio.get_running_loop().time() + RECOVERY_SECONDS
        while not self._over and asyncio.get_running_loop().time() < until and not self._is_recovered():
            await self._advance(20)
        if not self._over:
            self._check_acknowledged()
        self.oracle.note("every bot is well")
        self.shared.world.faults.clear()
        until = asyncio.get_running_loop().time() + END_SECONDS
        while not self._over and asyncio.get_running_loop().time() < until and self.tables.active:
            await self._advance(10)
        if not self._over:
            await self._advance(20)
            await self._let_groups_rest()
            self.oracle.ended()

    async def _let_groups_rest(self) -> None:
        """Check that groups that scale come to rest once nothing changes any more."""
        scaling, settings = self.oracle.scaling, self.shared.settings
        if scaling is None:
            return
        self.oracle.note("nothing changes")
        scaling.unchanged_since = EPOCH + asyncio.get_running_loop().time()
        quiet = settings.scaling_calm + settings.scaling_patience + 6 * settings.scaling_interval
        moves, until = -1, asyncio.get_running_loop().time() + SCALING_SECONDS
        while not self._over and (moves != scaling.move_count or self.tables.active):
            if asyncio.get_running_loop().time() > until:
                self.oracle.violated("its groups come to no rest")
            moves = scaling.move_count
            await self._advance(quiet)

    def _ill(self) -> list[str]:
        return [bot for bot, at in self._registry().items() if self.shared.world.symptom(at)]

    def _is_recovered(self) -> bool:
        ill = [bot for bot in self._ill() if self.tables.bots[bot].quarantined_at is None]
        return not ill and not self.tables.active

    def _check_acknowledged(self) -> None:
        """Check that an ill bot whose alert was accepted is in a run, was until lately, or is a person's."""
        if self.alerting.refused:
            self.oracle.violated(f"webhooks are refused though nothing is broken: {self.alerting.refused}")
        now = EPOCH + asyncio.get_running_loop().time()
        lately = self.shared.settings.relapse_after + 2 * REPEAT
        for bot in self._ill():
            acknowledged = any(
                episode.firing and episode.acknowledged and now - episode.started > lately
                for episode in self.alerting.episodes.values()
                if episode.bot == bot
            )
            if not acknowledged or bot in self.tables.active:
                continue
            ended = max(
                (run.finished_at or 0 for run in self.tables.runs.values() if run.bot == bot), default=0
            )
            if self.tables.bots[bot].quarantined_at is None and now - ended > lately:
                self.oracle.violated(f"{bot} is ill, its alert was acknowledged, and nothing is done")


def simulate(
    seed: int,
    *,
    mode: str | None = None,
    bots: int | None = None,
    trace: bool = False,
    until_first: bool = False,
) -> Result:
    """Run that seed to its end, or to its first violation."""
    drawn = plan(seed, mode)
    drawn = replace(drawn, bots=bots or drawn.bots)
    randomness.seed(seed)  # the prober's sample of a large fleet
    loop = VirtualLoop()
    loop.set_task_factory(remember_tasks)
    loop.set_exception_handler(lambda _loop, _context: None)
    simulations: list[Simulation] = []

    async def main() -> None:
        simulations.append(Simulation(seed, drawn, trace=trace, until_first=until_first))
        await simulations[0].run()

    names = Random(seed + 3)  # noqa: S311 -- repeatable
    try:
        with patch("secrets.token_hex", lambda size: f"{names.getrandbits(8 * size):0{2 * size}x}"):
            virtual_clock.run(main(), loop)
    except NothingHappensError:
        simulations[0].oracle.violated("everything waits for something that never comes")
    oracle = simulations[0].oracle
    scaling = oracle.scaling
    moves = (scaling.count("out"), scaling.count("in")) if scaling is not None else (0, 0)
    return Result(seed, oracle.events, oracle.violation, tuple(oracle.trace), oracle.first_decision, *moves)


def check(seed: int, *, trace: bool = False) -> Result:
    """Run that seed; and for one in ten, check that shadow decides first what auto does."""
    result = simulate(seed, trace=trace)
    if result.violation or seed % 10:
        return result
    auto, shadow = (simulate(seed, mode=mode, until_first=True) for mode in ("auto", "shadow"))
    events = result.events + auto.events + shadow.events
    violation = auto.violation or shadow.violation
    if auto.first_decision != shadow.first_decision:
        violation = f"auto's first decision was {auto.first_decision}, shadow's {shadow.first_decision}"
    return replace(result, events=events, violation=violation, trace=shadow.trace)
