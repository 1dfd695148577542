"""An instance that is there already becomes a bot: tagged as ours, then in the registry as any other."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from remediator.aws.aws import Aws
from remediator.aws.tags import BOT_TAG, CONFIG_SHA_TAG, DEPLOYMENT_TAG, MANAGED_TAG, ROLE_TAG
from remediator.configuration.versions import record
from remediator.engine.journal import Done, Failed, Journal, Outcome, begin_run
from remediator.model import Bot, Ended, Run
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.deploy import store_token
from remediator.store.lease import Lease
from remediator.store.store import Store
from remediator.store.transaction import Transaction


async def begin(tx: Transaction, bot: Bot, facts: Mapping[str, Any], actor: str) -> Run:
    """Write down the bot and the run that adopts its instance.

    `bot` and `facts` come from an `AdoptionCheck`. `deploy.start` the run once the transaction is kept.
    """
    reason = f"{facts['instance_id']} was adopted"
    version = await record(
        tx,
        bot.name,
        bot.config,
        bot.config_sha,
        actor=actor,
        reason=reason,
        origin="adopt",
        overrides=bot.overrides,
    )
    await tx.add_bot(replace(bot, version=version, created_at=tx.now, updated_at=tx.now))
    return await begin_run(tx, Run.begin("adopt", bot=bot.name, reason=reason, at=tx.now), facts, actor)


@dataclass(frozen=True, slots=True)
class Adoption:
    """Drives one adoption, whose request was checked before it began; goes on where it was after a crash."""

    store: Store
    aws: Aws
    cutover: Cutover

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        """Drive the run to its end. One that fails takes its token back, and leaves the instance alone."""
        journal = Journal(self.store, run, lease)
        outcome = await self._adopt(journal, bot)
        if isinstance(outcome, Done):
            return Ended("adopted", outcome.detail)
        left = await self.cutover.token_left(journal, bot) if "token" in await journal.steps() else ""
        return Ended("failed", outcome.reason + left)

    async def _adopt(self, journal: Journal, bot: Bot) -> Outcome:
        steps = await journal.steps()
        request = steps["asked"].request
        if "token" in steps:  # none was sent with the request where there is none
            token = await store_token(journal, self.aws)
            if isinstance(token, Failed):
                return token

        async def tag(_: Mapping[str, Any]) -> Outcome:
            tags = {
                MANAGED_TAG: "true",
                BOT_TAG: bot.name,
                DEPLOYMENT_TAG: journal.run.id,
                CONFIG_SHA_TAG: bot.config_sha,
                ROLE_TAG: "active",
            }
            ids = [request["instance_id"], *request["volumes"]]
            ids += [request["allocation_id"]] if request["allocation_id"] else []
            await self.aws.claim(ids, tags, journal.lease.check)
            return Done({}, f"{', '.join(ids)} tagged as ours")

        tagged = await journal.step("tagged", tag)
        if isinstance(tagged, Failed):
            return tagged

        async def register(columns: Mapping[str, Any]) -> Outcome:
            async with self.store.write_as(journal.lease) as tx:
                await tx.change_bot(bot.name, state="active", **columns)
            return Done({}, f"{columns['instance_id']} at {columns['address']}")

        names = ("instance_id", "address", "zone", "boot_id", "started_at", "allocation_id")
        columns = {name: request[name] for name in names}
        return await journal.step("registered", register, request=columns)
