"""The loop that compares every bot's instance with its declaration, and the report that all replicas see."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_attributes import InstanceDescription
from remediator.configuration.drift import Difference, compare, declared, fingerprint_of_base64
from remediator.model import Bot
from remediator.monitoring.prober import Prober
from remediator.periodic import run_every
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction

FACT: Final = "drift"
INSPECTED_AT_ONCE: Final = 20  # bots
READS: Final = 20  # of user data in one pass: a call for each instance, and it rarely changes

Outcome = list[Difference] | AwsError


@dataclass
class DriftDetector:
    """Inspects every bot; one replica leads at a time.

    Where AWS cannot be asked, the last report stays, with the reason.
    """

    store: Store
    aws: Aws
    prober: Prober
    settings: Settings
    _requests: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)  # by instance
    _user_data: dict[tuple[str, float], str] = field(default_factory=dict)  # by instance and launch
    _reads: int = READS

    async def serve(self) -> None:
        """Detect drift every `drift_interval`, until cancelled."""
        await run_every(self.detect, self.settings.drift_interval, "fleet not inspected")

    async def detect(self) -> None:
        """Inspect the whole fleet, and report what differs, if this replica leads."""
        async with self.store.write() as tx:
            if not await tx.try_lead("drift", 2 * self.settings.drift_interval):
                return
            idle = await _idle(tx)
        try:
            instances = await self.aws.describe_all()
        except AwsError as error:
            async with self.store.write() as tx:
                await tx.set_fact(FACT, {**await last_report(tx), "problem": str(error)})
            return
        self._forget_gone(instances)
        self._reads = READS
        limit = asyncio.Semaphore(INSPECTED_AT_ONCE)

        async def inspect(bot: Bot) -> Outcome:
            async with limit:
                try:
                    return await self.inspect(bot, instances.get(bot.instance_id))
                except AwsError as error:
                    return error

        bots = list(idle.values())
        outcomes = await asyncio.gather(*map(inspect, bots))
        async with self.store.write() as tx:
            await self._report(tx, list(zip(bots, outcomes, strict=True)), instances)

    async def _report(
        self,
        tx: Transaction,
        outcomes: Sequence[tuple[Bot, Outcome]],
        instances: Mapping[str, InstanceDescription],
    ) -> None:
        """Write the report. A bot that was not inspected, or changed meanwhile, stays in it as it was."""
        before = (await last_report(tx))["bots"]
        names = {bot.name for bot in await tx.bots()}
        current = {name: views for name, views in before.items() if name in names}
        idle = await _idle(tx)
        for bot, outcome in outcomes:
            if not isinstance(outcome, AwsError) and _is_same(bot, idle.get(bot.name)):
                current[bot.name] = with_since(outcome, before.get(bot.name, []), tx.now)
        problems = {str(outcome) for _, outcome in outcomes if isinstance(outcome, AwsError)}
        launched = {
            bot.name: instances[bot.instance_id].launched_at
            for bot, _ in outcomes
            if bot.instance_id in instances
        }
        report = {
            "at": tx.now,
            "problem": "; ".join(sorted(problems)),
            "bots": {name: views for name, views in current.items() if views},
            "launched": launched,
        }
        await tx.set_fact(FACT, report)

    async def inspect(self, bot: Bot, instance: InstanceDescription | None = None) -> list[Difference]:
        """Return what of this bot differs now; reads its instance unless it is passed. Raises AwsError."""
        if instance is None:
            instance = await self.aws.describe(bot.instance_id)
        if bot.instance_id not in self._requests:
            async with self.store.read() as tx:
                self._requests[bot.instance_id] = await tx.launched_by(bot)
        declaration = declared(bot, self._requests[bot.instance_id], self.settings)
        user_data = None
        if instance is not None and declaration.user_data is not None:
            user_data = await self._user_data_of(instance)
        reported = (await self.prober.probe_once(bot.target())).config_sha
        return compare(declaration, instance, user_data=user_data, reported=reported)

    async def _user_data_of(self, instance: InstanceDescription) -> str | None:
        """Return the hash of its user data; None where enough were read in this pass.

        They can only change while an instance is stopped, so they are read once a launch.
        """
        key = instance.id, instance.launched_at
        if key not in self._user_data:
            if self._reads <= 0:
                return None
            self._reads -= 1
            self._user_data[key] = fingerprint_of_base64(await self.aws.user_data(instance.id))
        return self._user_data[key]

    def _forget_gone(self, instances: Mapping[str, InstanceDescription]) -> None:
        self._requests = {id_: request for id_, request in self._requests.items() if id_ in instances}
        self._user_data = {key: hash_ for key, hash_ in self._user_data.items() if key[0] in instances}

    async def record(self, bot: Bot, differences: Iterable[Difference]) -> None:
        """Put what an inspection of this one bot has found into the report."""
        async with self.store.write() as tx:
            before = await last_report(tx)
            bots = dict(before["bots"])
            bots[bot.name] = with_since(differences, bots.get(bot.name, []), tx.now)
            await tx.set_fact(
                FACT, {**before, "bots": {name: views for name, views in bots.items() if views}}
            )


async def last_report(tx: Transaction) -> dict[str, Any]:
    """Return {"at", "problem", "bots", "launched"}, as it was last written.

    `at`: when the fleet was last inspected (Unix time), or None; `bots`: name → its differences, as they are
    shown; `launched`: name → when its instance was launched or last started (Unix time).
    """
    nothing: dict[str, Any] = {"at": None, "problem": "", "bots": {}, "launched": {}}
    return nothing | (await tx.fact(FACT) or {})


def with_since(
    differences: Iterable[Difference], before: Iterable[Mapping[str, Any]], now: float
) -> list[Any]:
    """Return the views of the differences, each with the Unix time since when it differs."""
    since = {difference["field"]: difference["since"] for difference in before}
    return [{**difference.view(), "since": since.get(difference.field, now)} for difference in differences]


async def _idle(tx: Transaction) -> dict[str, Bot]:
    """Return the bots that no run is changing, by name."""
    busy = {run.bot for run in await tx.active_runs()}
    return {bot.name: bot for bot in await tx.bots() if bot.state == "active" and bot.name not in busy}


def _is_same(before: Bot, now: Bot | None) -> bool:
    """Return whether it is still the bot that was inspected."""
    return now is not None and (before.instance_id, before.config_sha) == (now.instance_id, now.config_sha)
