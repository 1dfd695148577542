"""One seed: everything happens, faults stop, and what must hold is asked."""

import asyncio
import random as randomness
from dataclasses import dataclass, replace
from random import Random
from typing import Final
from unittest.mock import patch

from sandbox.simulator import clock
from sandbox.simulator.alertmanager import REPEAT
from sandbox.simulator.clock import EPOCH, NothingHappensError, VirtualLoop
from sandbox.simulator.happenings import Happenings
from sandbox.simulator.plan import plan
from sandbox.simulator.replica import remember_tasks

CALM: Final = 450.0  # seconds in which the ladder may finish what can be cured
REST: Final = 3600.0  # seconds within which groups have come to rest
END: Final = 900.0  # seconds within which every run must be over once every bot is well


@dataclass(frozen=True, slots=True)
class Result:
    seed: int
    events: int
    violation: str
    trace: tuple[str, ...]
    first: tuple[float, str, str] | None
    scaled_out: int = 0
    scaled_in: int = 0


class Simulation(Happenings):
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

    async def _answer_groups(self) -> None:
        """The same, of groups that ask whether they may scale; most are told yes."""
        random = Random(self.seed + 2)  # noqa: S311 -- repeatable
        while True:
            await asyncio.sleep(15)
            for (template, environment), kept in list(self.tables.scaled.items()):
                if kept["proposed"] and not kept["proposed"]["approved"] and random.random() < 0.7:
                    where = {"template": template, "environment": environment}
                    await self._any().call("approve_scaling", {"by": "ann"}, where)

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
        if self.plan.scaling is not None:
            self._background.append(loop.create_task(self._answer_groups()))
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
            replica.last_words, replica.last_move = None, ""
            replica.stall, replica.daze = 0, ("", 0)
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
            await self._rest()
            self.oracle.ended()

    async def _rest(self) -> None:
        """Nothing changes any more: groups that scale may go where they belong, and stay there."""
        growth, settings = self.oracle.growth, self.around.settings
        if growth is None:
            return
        self.oracle.note("nothing changes")
        growth.still_since = EPOCH + asyncio.get_running_loop().time()
        quiet = settings.scaling_calm + settings.scaling_patience + 6 * settings.scaling_interval
        moves, until = -1, asyncio.get_running_loop().time() + REST
        while not self._over and (moves != growth.moves or self.tables.active):
            if asyncio.get_running_loop().time() > until:
                self.oracle.violated("its groups come to no rest")
            moves = growth.moves
            await self._pass(quiet)

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

    names = Random(seed + 3)  # noqa: S311 -- repeatable
    try:
        with patch("secrets.token_hex", lambda size: f"{names.getrandbits(8 * size):0{2 * size}x}"):
            clock.run(main(), loop)
    except NothingHappensError:
        made[0].oracle.violated("everything waits for something that never comes")
    oracle = made[0].oracle
    growth = oracle.growth
    moves = (growth.count("out"), growth.count("in")) if growth is not None else (0, 0)
    return Result(seed, oracle.events, oracle.found, tuple(oracle.trace), oracle.first, *moves)


def check(seed: int, *, trace: bool = False) -> Result:
    """That seed; and for one in ten, whether shadow decides first what auto does."""
    result = simulate(seed, trace=trace)
    if result.violation or seed % 10:
        return result
    auto, shadow = (simulate(seed, mode=mode, until_first=True) for mode in ("auto", "shadow"))
    events = result.events + auto.events + shadow.events
    why = auto.violation or shadow.violation
    if auto.first != shadow.first:
        why = f"auto's first decision was {auto.first}, shadow's {shadow.first}"
    return replace(result, events=events, violation=why, trace=shadow.trace)
