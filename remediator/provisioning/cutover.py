"""The move of a bot to an instance: its Telegram token, its address, its row of the registry.

Two processes that poll Telegram with one token conflict (getUpdates answers one of them 409), so a token has
one holder at a time: the instance named in the parameter `/bots/<bot>/active`. Any other stands by: its bot
is up and answers `/health`, without Telegram, and reads the parameter again every few seconds and at each
start. Where there is no such parameter, every instance of the bot may use the token: a first deployment waits
for nobody.

Hence the order of every redeploy: `reserve` the token for the old instance, launch and prove the candidate,
stop (or terminate) the old one, and only then `activate` the candidate.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.client import DESCRIBED_WITHIN
from remediator.aws.elastic_ips import Address
from remediator.aws.tags import BOT_TAG, ROLE_TAG
from remediator.engine.journal import Done, Failed, Journal, Outcome
from remediator.model import Bot
from remediator.settings import Settings

POLL_INTERVAL: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Cutover:
    """The steps of a run that make its bot another instance, or none."""

    aws: Aws
    settings: Settings

    async def reserve(self, journal: Journal, bot: Bot) -> Outcome:
        """Keep the token with the bot's instance before a candidate is launched.

        The standby that an earlier redeploy left is terminated.
        """

        async def reserve(request: Mapping[str, Any]) -> Outcome:
            if request["standby"]:
                await self.aws.terminate(request["standby"], journal.lease.check)
                async with journal.store.write_as(journal.lease) as tx:
                    await tx.change_bot(bot.name, standby_instance_id="", standby_until=None)
            if not request["instance_id"]:
                return Done({}, "it has no instance that could hold the token")
            await self.aws.give_token(bot.name, request["instance_id"])
            return Done({}, f"the token stays with {request['instance_id']}")

        request = {"instance_id": bot.instance_id, "standby": bot.standby_instance_id}
        return await journal.step("reserved", reserve, request=request)

    async def reserve_again(self, journal: Journal, bot: Bot, deadline: float) -> Outcome:
        """Give the token back to the bot's instance; tried until `deadline` (Unix time)."""

        async def reserve(_: Mapping[str, Any]) -> Outcome:
            await self.aws.give_token(bot.name, bot.instance_id)
            return Done({}, f"the token is {bot.instance_id}'s again")

        return await journal.step("reserved again", reserve, deadline=deadline)

    async def activate(self, journal: Journal, bot: Bot, instance_id: str) -> Outcome:
        """Give the token to that instance, and the bot there the time to notice, which may restart it."""

        async def give(request: Mapping[str, Any]) -> Outcome:
            await self.aws.give_token(bot.name, request["instance_id"])
            await asyncio.sleep(self.settings.activation)
            return Done({}, f"the token is {request['instance_id']}'s")

        return await journal.step("activated", give, request={"instance_id": instance_id})

    async def address(self, journal: Journal, bot: Bot) -> Outcome:
        """Find or allocate the bot's Elastic IP.

        Done({"allocation_id", "public_ip"}), or Done({}) where it is to have none.
        """
        if not self.settings.elastic_ip and not bot.allocation_id:
            return Done()

        async def allocate(_: Mapping[str, Any]) -> Outcome:
            address = await self.aws.find_address(bot.name)
            return _allocated(address or await self.aws.allocate_address(bot.name, journal.lease.check))

        async def settle(request: Mapping[str, Any]) -> Outcome:
            for _ in range(round(DESCRIBED_WITHIN / POLL_INTERVAL)):
                address = await self.aws.find_address(bot.name)
                if address is not None:
                    return _allocated(address)
                await asyncio.sleep(POLL_INTERVAL)
            return await allocate(request)

        return await journal.step("address", allocate, settle=settle)

    async def release(self, journal: Journal, bot: Bot) -> Outcome:
        """Give back every address that carries the bot's name."""

        async def release(_: Mapping[str, Any]) -> Outcome:
            addresses = [
                address for address in await self.aws.addresses() if address.tags.get(BOT_TAG) == bot.name
            ]
            for address in addresses:
                await self.aws.release_address(address.allocation_id, journal.lease.check)
            names = ", ".join(address.public_ip for address in addresses)
            return Done({}, f"address {names} released" if names else "no address to release")

        return await journal.step("address released", release)

    async def delete_token(self, journal: Journal, bot: Bot, *, name: str = "forget token") -> Outcome:
        """Delete the bot's token as the step of that name."""

        async def delete(_: Mapping[str, Any]) -> Outcome:
            await self.aws.delete_token(bot.name)
            return Done({}, "token deleted from SSM")

        return await journal.step(name, delete)

    async def token_left(self, journal: Journal, bot: Bot) -> str:
        """Delete the token of a bot that was not to be; return what to tell people where that failed."""
        deleted = await self.delete_token(journal, bot)
        return f"; its token could not be deleted: {deleted.reason}" if isinstance(deleted, Failed) else ""

    async def move(
        self,
        journal: Journal,
        bot: Bot,
        instance: Mapping[str, Any],
        address: Mapping[str, Any],
        *,
        name: str = "moved",
        standby: str = "",
        becomes: Mapping[str, Any] = {},
    ) -> Outcome:
        """Make the bot that instance, with its address; the registry and `/sd` say so from now on.

        `instance` and `address`: results of `Launcher.bring_up` and of `address`. `becomes`: columns of the
        bot that change at this moment, too. `standby`: the instance it was until now.
        """
        host = address.get("public_ip") if self.settings.address == "public" else None
        columns = {key: instance[key] for key in ("instance_id", "boot_id", "started_at", "zone")}
        columns |= {
            "address": f"{host or instance['address']}:{bot.config['probe']['port']}",
            "allocation_id": address.get("allocation_id", ""),
            "standby_instance_id": standby,
            "standby_until": None,
        }
        return await self.register(journal, name, columns | dict(becomes))

    async def register(self, journal: Journal, name: str, columns: Mapping[str, Any]) -> Outcome:
        """Write these columns of the bot, its instance and address among them, as the step of that name."""

        async def register(request: Mapping[str, Any]) -> Outcome:
            instance_id, allocation_id = request["instance_id"], request["allocation_id"]
            await self.aws.tag(instance_id, {ROLE_TAG: "active"})
            if allocation_id:
                await self.aws.associate_address(allocation_id, instance_id, journal.lease.check)
            async with journal.store.write_as(journal.lease) as tx:
                await tx.change_bot(journal.run.bot, state="active", **request)
            return Done({}, f"{instance_id} at {request['address']}")

        return await journal.step(name, register, request=columns)


def _allocated(address: Address) -> Outcome:
    result = {"allocation_id": address.allocation_id, "public_ip": address.public_ip}
    return Done(result, f"{address.public_ip} ({address.allocation_id})")
