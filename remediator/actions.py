"""The tiers that act: restart, reboot, redeploy. One signature, one table.

`do` carries a tier out; `settle` is asked after a crash, or after an answer that was lost, whether it was
carried out. What proves a cure is never in here: that is for the prober to see.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.ec2 import Aws, AwsError
from remediator.handover import Handover
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.launch import TAG, Launcher
from remediator.model import Bot, Tier
from remediator.prober import Look, Prober
from remediator.restarters import Order, Restarter

SETTLE_POLL: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Hands:
    """What acting takes."""

    aws: Aws
    launcher: Launcher
    prober: Prober
    restarter: Restarter


@dataclass(frozen=True, slots=True)
class Action:
    """One tier on one bot. `request` was on disk before this: instance and boot as they were then."""

    hands: Hands
    journal: Journal
    bot: Bot
    request: Mapping[str, Any]
    began_at: float  # Unix time of the intent
    timeout: float  # seconds from then to the deadline

    @property
    def deadline(self) -> float:
        return self.began_at + self.timeout

    @property
    def instance_id(self) -> str:
        return str(self.request["instance_id"])

    def now(self) -> float:
        return self.journal.store.clock()


Do = Callable[[Action], Awaitable[Outcome]]


async def restart(action: Action) -> Outcome:
    """The bot's service alone, by the restarter that the settings name."""
    return await action.hands.restarter.restart(_order(action))


async def settle_restart(action: Action) -> Outcome:
    return await action.hands.restarter.settle(_order(action))


def _order(action: Action) -> Order:
    target = action.bot.target()
    return Order(
        instance_id=action.instance_id,
        host=target.address.rpartition(":")[0].strip("[]"),
        comment=str(action.request["comment"]),
        before=action.request,
        began_at=action.began_at,
        timeout=action.timeout,
        now=action.now,
        guard=action.journal.lease.check,
        look=lambda: action.hands.prober.look(target),
    )


async def reboot(action: Action) -> Outcome:
    """RebootInstances. Asynchronous: the verification waits for another boot_id."""
    await action.hands.aws.reboot(action.instance_id, action.journal.lease.check)
    return Done({}, f"{action.instance_id} was told to reboot")


async def settle_reboot(action: Action) -> Outcome:
    """The bot's boot_id settles it. A bot that stays silent leaves it open: then it is not done again.

    Another boot_id than before: it was done. Still the old one when even a hard reboot (EC2: after four
    minutes) would have begun: it was not, so it is done now.
    """
    before = action.request.get("boot_id")
    while True:
        look = await action.hands.prober.look(action.bot.target())
        if look.boot_id is not None and before is not None and look.boot_id != before:
            return Done({}, "settled: the bot has a new boot_id")
        if action.now() >= action.deadline:
            if look.healthy:
                return Failed("settled: it was not rebooted, and is healthy without")
            if look.boot_id is not None and look.boot_id == before:
                return await action.journal.step("reboot again", lambda _: reboot(action), settle=_left_open)
            return Done({}, "in doubt, and not done again: the bot does not answer")
        await asyncio.sleep(SETTLE_POLL)


async def _left_open(_: Mapping[str, Any]) -> Outcome:
    """The bot would still show its old boot_id if the reboot had only just been asked for."""
    return Done({}, "in doubt for a second time, and not done again")


async def redeploy(action: Action) -> Outcome:
    """A new instance from the same configuration, healthy before the old one goes.

    As a redeploy that a person asks for (remediator.bluegreen), but for an old instance that is ill: there
    is nothing to go back to, so it is terminated, and the verification of the tier is the soak. Its steps
    are journaled one by one, so after a crash this is simply called again.
    """
    journal, bot, hand = action.journal, action.bot, Handover(action.hands.launcher)
    up = await _candidate(action, hand)
    if isinstance(up, Failed):
        taken = await action.hands.launcher.take_away(journal, "the old instance was left alone")
        return Failed(f"{up.why}; {taken}", denied=up.denied)

    async def retire(request: Mapping[str, Any]) -> Outcome:
        if request["instance_id"]:
            try:
                await action.hands.aws.tag(request["instance_id"], {f"{TAG}:role": "retired"})
            except AwsError as error:
                if error.kind != "gone":
                    raise
            await action.hands.aws.terminate(request["instance_id"], journal.lease.check)
        async with journal.store.hold(journal.lease) as tx:
            await tx.change_bot(bot.name, standby_instance_id="")
        return Done({}, f"{request['instance_id'] or 'no instance'} terminated")

    retired = await journal.step("retired", retire, request={"instance_id": action.instance_id})
    if isinstance(retired, Failed):
        return Failed(f"the new instance runs, but the old one could not be ended: {retired.why}")
    activated = await hand.activate(journal, bot, up.result["instance_id"])
    if isinstance(activated, Failed):
        return Failed(f"the new instance runs, but may not use its token: {activated.why}")
    return Done(up.result, f"{up.result['instance_id']} at {up.result['address']}")


async def _candidate(action: Action, hand: Handover) -> Outcome:
    """Up, and the bot moved to it."""
    journal, bot = action.journal, action.bot
    reserved = await hand.reserve(journal, bot)
    if isinstance(reserved, Failed):
        return reserved
    up = await action.hands.launcher.bring_up(journal, bot, "candidate")
    if isinstance(up, Failed):
        return up
    address = await hand.address(journal, bot)
    if isinstance(address, Failed):
        return address
    moved = await hand.move(journal, bot, up.result, address.result, keep=action.instance_id)
    return moved if isinstance(moved, Failed) else up


@dataclass(frozen=True, slots=True)
class TierAction:
    do: Do
    settle: Do
    doubt: Callable[[Mapping[str, Any], Look], str | None]


def _unchanged(key: str, what: str) -> Callable[[Mapping[str, Any], Look], str | None]:
    """A healthy answer with the old boot_id (or started_at) comes from before the action, or despite it."""

    def doubt(before: Mapping[str, Any], look: Look) -> str | None:
        now = getattr(look, key)
        return what if now is not None and now == before.get(key) else None

    return doubt


ACTIONS: Final[Mapping[Tier, TierAction]] = {
    "restart": TierAction(
        restart, settle_restart, _unchanged("started_at", "it answers, but has not restarted")
    ),
    "reboot": TierAction(reboot, settle_reboot, _unchanged("boot_id", "it answers, but has not rebooted")),
    "redeploy": TierAction(redeploy, redeploy, lambda _before, _look: None),
}
