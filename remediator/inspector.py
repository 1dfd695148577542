"""Looks at every bot's instance now and then; what differs is kept where all replicas see it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select

from remediator.attributes import Shape
from remediator.drift import Difference, compare, declared, fingerprint_of_base64
from remediator.ec2 import Aws, AwsError
from remediator.model import Bot, Step
from remediator.prober import Prober
from remediator.rounds import repeat
from remediator.schema import runs, steps
from remediator.settings import Settings
from remediator.store import Store
from remediator.transaction import Transaction

FACT: Final = "drift"
AT_ONCE: Final = 20  # bots looked at
READS: Final = 20  # of user data in one look: a call for each instance, and it rarely changes

Found = Mapping[str, list[dict[str, Any]]]
"""Bot → its differences, as they are shown."""


@dataclass
class Inspector:
    """One replica looks at a time. Where AWS cannot be asked, what was seen last stays, with the reason."""

    store: Store
    aws: Aws
    prober: Prober
    settings: Settings
    _requests: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)  # by instance
    _user_data: dict[tuple[str, float], str] = field(default_factory=dict)  # by instance and launch
    _reads: int = READS

    async def serve(self) -> None:
        """Until cancelled."""
        await repeat(self.look, self.settings.drift_interval, "no look at drift")

    async def look(self) -> None:
        """At the whole fleet, if it is this replica's turn."""
        async with self.store.write() as tx:
            if not await tx.turn("drift", 2 * self.settings.drift_interval):
                return
            idle = await _idle(tx)
        try:
            real = await self.aws.shapes()
        except AwsError as error:
            async with self.store.write() as tx:
                await tx.set_fact(FACT, {**await seen(tx), "problem": str(error)})
            return
        self._forget(real)
        self._reads = READS
        limit = asyncio.Semaphore(AT_ONCE)

        async def one(bot: Bot) -> tuple[Bot, list[Difference] | AwsError]:
            async with limit:
                try:
                    return bot, await self.inspect(bot, real.get(bot.instance_id))
                except AwsError as error:
                    return bot, error

        looks = await asyncio.gather(*map(one, idle.values()))
        problems = {str(outcome) for _, outcome in looks if isinstance(outcome, AwsError)}
        async with self.store.write() as tx:
            before = (await seen(tx))["bots"]
            names = {bot.name for bot in await tx.bots()}
            kept = {name: found for name, found in before.items() if name in names}
            still = await _idle(tx)
            for bot, outcome in looks:
                if not isinstance(outcome, AwsError) and _same(bot, still.get(bot.name)):
                    kept[bot.name] = shown(outcome, before.get(bot.name, []), tx.now)
            found = {name: differences for name, differences in kept.items() if differences}
            instances = {bot.name: real[bot.instance_id] for bot, _ in looks if bot.instance_id in real}
            launched = {name: instance.launched_at for name, instance in instances.items()}
            told = {"problem": "; ".join(sorted(problems)), "bots": found, "launched": launched}
            await tx.set_fact(FACT, {"at": tx.now, **told})

    async def inspect(self, bot: Bot, real: Shape | None = None) -> list[Difference]:
        """What of this bot differs now. Raises AwsError."""
        if real is None:
            real = await self.aws.shape(bot.instance_id)
        if bot.instance_id not in self._requests:
            async with self.store.read() as tx:
                self._requests[bot.instance_id] = await launched_by(tx, bot)
        wanted = declared(bot, self._requests[bot.instance_id], self.settings)
        user_data = None
        if real is not None and wanted.user_data is not None:
            user_data = await self._user_data_of(real)
        reported = (await self.prober.look(bot.target())).config_sha
        return compare(wanted, real, user_data=user_data, reported=reported)

    async def _user_data_of(self, real: Shape) -> str | None:
        """Its hash. It can only change while an instance is stopped, so it is read once a launch."""
        key = real.id, real.launched_at
        if key not in self._user_data:
            if self._reads <= 0:
                return None
            self._reads -= 1
            self._user_data[key] = fingerprint_of_base64(await self.aws.user_data(real.id))
        return self._user_data[key]

    def _forget(self, real: Mapping[str, Shape]) -> None:
        self._requests = {key: kept for key, kept in self._requests.items() if key in real}
        self._user_data = {key: kept for key, kept in self._user_data.items() if key[0] in real}

    async def note(self, bot: Bot, differences: Iterable[Difference]) -> None:
        """What a look at this one bot has just seen."""
        async with self.store.write() as tx:
            before = await seen(tx)
            found = dict(before["bots"])
            found[bot.name] = shown(differences, before["bots"].get(bot.name, []), tx.now)
            found = {name: differences for name, differences in found.items() if differences}
            await tx.set_fact(FACT, {**before, "bots": found})


async def seen(tx: Transaction) -> dict[str, Any]:
    """{"at": when it last looked, or None; "problem"; "bots": Found; "launched": bot → when}. Unix time."""
    nothing: dict[str, Any] = {"at": None, "problem": "", "bots": {}, "launched": {}}
    return nothing | (await tx.fact(FACT) or {})


async def launched_by(tx: Transaction, bot: Bot) -> Mapping[str, Any] | None:
    """The request that launched its instance; None where it was not launched by us."""
    of_bot = steps.join(runs, runs.c.id == steps.c.run_id)
    launches = (runs.c.bot == bot.name) & steps.c.name.like("launch%") & (steps.c.state == "done")
    found = await tx.all(Step, select(steps).select_from(of_bot).where(launches).order_by(steps.c.id.desc()))
    for step in found:
        if step.result.get("instance_id") == bot.instance_id and "UserData" in step.request:
            return step.request
    return None


def shown(differences: Iterable[Difference], before: Iterable[Mapping[str, Any]], now: float) -> list[Any]:
    """As they are kept: each with the time since when it differs."""
    since = {one["field"]: one["since"] for one in before}
    return [{**one.view(), "since": since.get(one.field, now)} for one in differences]


async def _idle(tx: Transaction) -> dict[str, Bot]:
    """The bots that no run is changing."""
    busy = {run.bot for run in await tx.active_runs()}
    return {bot.name: bot for bot in await tx.bots() if bot.state == "active" and bot.name not in busy}


def _same(before: Bot, now: Bot | None) -> bool:
    """Whether it is still the bot that was looked at."""
    return now is not None and (before.instance_id, before.config_sha) == (now.instance_id, now.config_sha)
