"""Which instance a bot is: who may use its Telegram token, where its address leads, what the registry says.

Two processes that poll Telegram with one token conflict (getUpdates answers one of them 409), so a token has
one holder at a time: the instance named in the parameter `/bots/<bot>/active`. Any other stands by: its bot
is up and answers `/health`, without Telegram, and looks again every few seconds and at each start. Where
there is no such parameter, whoever is there may use the token: a first deployment waits for nobody.

Hence the order of every redeploy: `reserve` the token for the old instance, launch and prove the candidate,
stop (or terminate) the old one, and only then `activate` the candidate.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.ec2 import Address, Aws
from remediator.journal import Done, Journal, Outcome
from remediator.launch import TAG, Launcher
from remediator.model import Bot

LISTED_LATE: Final = 5.0  # seconds within which an address allocated just before a crash is described
LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Handover:
    """Each method is one step of a run."""

    launcher: Launcher

    @property
    def aws(self) -> Aws:
        return self.launcher.aws

    async def reserve(self, journal: Journal, bot: Bot) -> Outcome:
        """Before a candidate: the token stays where it is. What an earlier redeploy kept goes now."""

        async def reserve(request: Mapping[str, Any]) -> Outcome:
            if request["standby"]:
                await self.aws.terminate(request["standby"], journal.lease.check)
                async with journal.store.hold(journal.lease) as tx:
                    await tx.change_bot(bot.name, standby_instance_id="", standby_until=None)
            if not request["instance_id"]:
                return Done({}, "it has no instance that could hold the token")
            await self.aws.give_token(bot.name, request["instance_id"])
            return Done({}, f"the token stays with {request['instance_id']}")

        request = {"instance_id": bot.instance_id, "standby": bot.standby_instance_id}
        return await journal.step("reserved", reserve, request=request)

    async def activate(
        self, journal: Journal, bot: Bot, instance_id: str, *, name: str = "activated"
    ) -> Outcome:
        """Give the token to that instance, and the bot there the time to notice, which may restart it."""

        async def give(request: Mapping[str, Any]) -> Outcome:
            await self.aws.give_token(bot.name, request["instance_id"])
            await asyncio.sleep(self.launcher.settings.activation)
            return Done({}, f"the token is {request['instance_id']}'s")

        return await journal.step(name, give, request={"instance_id": instance_id})

    async def address(self, journal: Journal, bot: Bot) -> Outcome:
        """The bot's Elastic IP: Done({"allocation_id", "public_ip"}); Done({}) where it is to have none."""
        if not self.launcher.settings.elastic_ip and not bot.allocation_id:
            return Done()

        async def find() -> Address | None:
            return await self.aws.find_address(bot.name)

        async def take(_: Mapping[str, Any]) -> Outcome:
            return _taken(await find() or await self.aws.allocate_address(bot.name, journal.lease.check))

        async def settle(request: Mapping[str, Any]) -> Outcome:
            for _ in range(round(LISTED_LATE / LOOK)):
                found = await find()
                if found is not None:
                    return _taken(found)
                await asyncio.sleep(LOOK)
            return await take(request)

        return await journal.step("address", take, settle=settle)

    async def release(self, journal: Journal, bot: Bot) -> Outcome:
        """Give back the address of a bot that was not to be."""

        async def release(_: Mapping[str, Any]) -> Outcome:
            found = await self.aws.find_address(bot.name)
            if found is not None:
                await self.aws.release_address(found.allocation_id, journal.lease.check)
            return Done({}, f"{found.public_ip} released" if found is not None else "there was none")

        return await journal.step("address released", release)

    async def move(
        self,
        journal: Journal,
        bot: Bot,
        up: Mapping[str, Any],
        address: Mapping[str, Any],
        *,
        name: str = "moved",
        keep: str = "",
        becomes: Mapping[str, Any] = {},
    ) -> Outcome:
        """From now on the bot is the instance `up`, with its address; the registry and `/sd` say so.

        `becomes`: what else changes about the bot at this moment. `keep`: the instance it was until now.
        """
        settings = self.launcher.settings
        host = address.get("public_ip") if settings.address == "public" else None
        request = {key: up[key] for key in ("instance_id", "boot_id", "started_at", "zone")}
        request |= {
            "address": f"{host or up['address']}:{bot.config['probe']['port']}",
            "allocation_id": address.get("allocation_id", ""),
            "standby_instance_id": keep,
            "standby_until": None,
        }
        return await self.put(journal, name, request | dict(becomes))

    async def put(self, journal: Journal, name: str, facts: Mapping[str, Any]) -> Outcome:
        """`facts`: columns of the bot, its instance and address among them."""

        async def put(request: Mapping[str, Any]) -> Outcome:
            instance_id, allocation_id = request["instance_id"], request["allocation_id"]
            await self.aws.tag(instance_id, {f"{TAG}:role": "active"})
            if allocation_id:
                await self.aws.associate_address(allocation_id, instance_id, journal.lease.check)
            async with journal.store.hold(journal.lease) as tx:
                await tx.change_bot(journal.run.bot, state="active", **request)
            return Done({}, f"{instance_id} at {request['address']}")

        return await journal.step(name, put, request=facts)


def _taken(address: Address) -> Outcome:
    found = {"allocation_id": address.allocation_id, "public_ip": address.public_ip}
    return Done(found, f"{address.public_ip} ({address.allocation_id})")
