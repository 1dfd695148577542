"""An instance that is there already becomes a bot: tagged as ours, then in the registry as any other."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.caller import BOT_TAG, DEPLOYMENT_TAG, MANAGED
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.launch import TAG, Launcher
from remediator.lease import Lease
from remediator.model import Bot, Ended, Run
from remediator.store import Store


@dataclass(frozen=True, slots=True)
class Adoption:
    """Drives one adoption, whose request was checked before it began; goes on where it was after a crash."""

    store: Store
    launcher: Launcher

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        journal = Journal(self.store, run, lease)
        outcome = await self._adopt(journal, bot)
        if isinstance(outcome, Done):
            return Ended("adopted", outcome.detail)
        left = ""
        if "token" in await journal.steps():
            forgotten = await journal.step("forget token", self._forget(bot))
            left = (
                f"; its token could not be deleted: {forgotten.why}" if isinstance(forgotten, Failed) else ""
            )
        return Ended("failed", outcome.why + left)

    def _forget(self, bot: Bot) -> Any:
        async def forget(_: Mapping[str, Any]) -> Outcome:
            await self.launcher.aws.delete_token(bot.name)
            return Done({}, "deleted from SSM")

        return forget

    async def _adopt(self, journal: Journal, bot: Bot) -> Outcome:
        steps = await journal.steps()
        asked = steps["asked"].request
        if "token" in steps and steps["token"].state != "done":
            return Failed("the Telegram token did not reach SSM; send the request again")

        async def tag(_: Mapping[str, Any]) -> Outcome:
            tags = {
                MANAGED: "true",
                BOT_TAG: bot.name,
                DEPLOYMENT_TAG: journal.run.id,
                f"{TAG}:config-sha": bot.config_sha,
                f"{TAG}:role": "active",
            }
            ids = [asked["instance_id"], *asked["volumes"]]
            ids += [asked["allocation_id"]] if asked["allocation_id"] else []
            await self.launcher.aws.claim(ids, tags, journal.lease.check)
            return Done({}, f"{', '.join(ids)} tagged as ours")

        tagged = await journal.step("tagged", tag)
        if isinstance(tagged, Failed):
            return tagged

        async def register(request: Mapping[str, Any]) -> Outcome:
            async with self.store.hold(journal.lease) as tx:
                await tx.change_bot(bot.name, state="active", **request)
            return Done({}, f"{request['instance_id']} at {request['address']}")

        columns = ("instance_id", "address", "zone", "boot_id", "started_at", "allocation_id")
        return await journal.step("registered", register, request={name: asked[name] for name in columns})
