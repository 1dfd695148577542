"""A new bot: its token in SSM, its instance up and healthy, itself in the registry. Or nothing at all."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.handover import Handover
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.launch import Launcher
from remediator.lease import Lease
from remediator.model import Bot, Ended, Run
from remediator.store import Store


@dataclass(frozen=True, slots=True)
class Deployment:
    """Drives one deployment; goes on where it was after a crash."""

    store: Store
    launcher: Launcher

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        journal = Journal(self.store, run, lease)
        outcome = await self._deploy(journal, bot)
        if isinstance(outcome, Done):
            return Ended("deployed", outcome.detail)
        taken = await self.launcher.take_away(journal, outcome.why)
        if "address" in await journal.steps():
            await Handover(self.launcher).release(journal, bot)
        forgotten = await self._forget_token(journal, bot)
        left = f"; its token could not be deleted: {forgotten.why}" if isinstance(forgotten, Failed) else ""
        return Ended("failed", f"{outcome.why}; {taken}{left}")

    async def _deploy(self, journal: Journal, bot: Bot) -> Outcome:
        async def token_stored(request: Mapping[str, Any]) -> Outcome:
            if await self.launcher.aws.has_token(bot.name, request["since"]):
                return Done({}, "in SSM Parameter Store, as a SecureString")
            return Failed("the Telegram token did not reach SSM before a crash; send the deploy again")

        token = await journal.step("token", token_stored, request={"since": journal.run.created_at})
        if isinstance(token, Failed):
            return token
        up = await self.launcher.bring_up(journal, bot, "candidate")
        if isinstance(up, Failed):
            return up
        hand = Handover(self.launcher)
        address = await hand.address(journal, bot)
        if isinstance(address, Failed):
            return address
        return await hand.move(journal, bot, up.result, address.result, name="registered")

    async def _forget_token(self, journal: Journal, bot: Bot) -> Outcome:
        async def forget(_: Mapping[str, Any]) -> Outcome:
            await self.launcher.aws.delete_token(bot.name)
            return Done({}, "deleted from SSM")

        return await journal.step("forget token", forget)
