"""The tiers that act: restart, reboot, redeploy. One signature, one table.

`do` carries a tier out; `settle` is asked after a crash, or after an answer that was lost, whether it was
carried out. What proves a cure is never in here: that is the prober's, but for an answer that `reject`
says comes from before the tier.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.tags import ROLE_TAG
from remediator.engine.journal import Done, Failed, Outcome
from remediator.model import Tier
from remediator.monitoring.prober import Observation, Prober
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.launcher import Launcher
from remediator.provisioning.verification import standby_of
from remediator.recovery.restarters import SETTLE_POLL, Restarter
from remediator.recovery.tier_request import TierRequest


@dataclass(frozen=True, slots=True)
class Actuators:
    """What acting takes."""

    aws: Aws
    launcher: Launcher
    cutover: Cutover
    prober: Prober
    restarter: Restarter


Do = Callable[[Actuators, TierRequest], Awaitable[Outcome]]
Reject = Callable[[TierRequest, Observation], str | None]


async def restart(actuators: Actuators, request: TierRequest) -> Outcome:
    """Restart the bot's service alone, by the restarter that the settings name."""
    return await actuators.restarter.restart(request)


async def settle_restart(actuators: Actuators, request: TierRequest) -> Outcome:
    """Find out whether the service was restarted; each restarter has its own way."""
    return await actuators.restarter.settle(request)


async def reboot(actuators: Actuators, request: TierRequest) -> Outcome:
    """Call RebootInstances. Asynchronous: the verification waits for another boot_id."""
    await actuators.aws.reboot(request.instance_id, request.check_lease)
    return Done({}, f"{request.instance_id} was told to reboot")


async def settle_reboot(actuators: Actuators, request: TierRequest) -> Outcome:
    """Compare the bot's boot_id. A bot that stays silent leaves it open: then it is not rebooted again.

    Another boot_id than before: it was done. Still the old one when even a hard reboot (EC2: after four
    minutes) would have begun: it was not, so it is done now.
    """
    before = request.boot_id
    while True:
        bot = await actuators.prober.probe_once(request.bot.target())
        if bot.boot_id is not None and before is not None and bot.boot_id != before:
            return Done({}, "settled: the bot has a new boot_id")
        if request.now() >= request.deadline:
            if bot.healthy:
                return Failed("settled: it was not rebooted, and is healthy without")
            if bot.boot_id is not None and bot.boot_id == before:
                return await request.journal.step(
                    "reboot again", lambda _: reboot(actuators, request), settle=_leave_open
                )
            return Done({}, "in doubt, and not done again: the bot does not answer")
        await asyncio.sleep(SETTLE_POLL)


async def _leave_open(_: Mapping[str, Any]) -> Outcome:
    """Leave it: the bot would still show its old boot_id if the reboot had only just been asked for."""
    return Done({}, "in doubt for a second time, and not done again")


async def redeploy(actuators: Actuators, request: TierRequest) -> Outcome:
    """Launch a new instance from the same configuration, healthy before the old one goes.

    As a redeploy that a person asks for (`provisioning.blue_green`), but for an old instance that is ill:
    there is nothing to go back to, so it is terminated, and the verification of the tier is the soak. Its
    steps are journaled one by one, so after a crash this is simply called again.
    """
    journal, bot, cutover = request.journal, request.bot, actuators.cutover
    candidate = await _launch_candidate(actuators, request, cutover)
    if isinstance(candidate, Failed):
        cleaned = await actuators.launcher.clean_up(journal, "the old instance was left alone")
        return Failed(f"{candidate.reason}; {cleaned}", denied=candidate.denied)
    instance_id = candidate.result["instance_id"]

    async def retire(step: Mapping[str, Any]) -> Outcome:
        if step["instance_id"]:
            try:
                await actuators.aws.tag(step["instance_id"], {ROLE_TAG: "retired"})
            except AwsError as error:
                if error.kind != "gone":
                    raise
            await actuators.aws.terminate(step["instance_id"], journal.lease.check)
        async with journal.store.write_as(journal.lease) as tx:
            await tx.change_bot(bot.name, standby_instance_id="")
        return Done({}, f"{step['instance_id'] or 'no instance'} terminated")

    retired = await journal.step("retired", retire, request={"instance_id": request.instance_id})
    if isinstance(retired, Failed):
        return Failed(f"the new instance runs, but the old one could not be ended: {retired.reason}")
    activated = await cutover.activate(journal, bot, instance_id)
    if isinstance(activated, Failed):
        return Failed(f"the new instance runs, but may not use its token: {activated.reason}")
    return Done(candidate.result, f"{instance_id} at {candidate.result['address']}")


async def _launch_candidate(actuators: Actuators, request: TierRequest, cutover: Cutover) -> Outcome:
    """Launch the new instance, and move the bot to it once it is healthy."""
    journal, bot = request.journal, request.bot
    reserved = await cutover.reserve(journal, bot)
    if isinstance(reserved, Failed):
        return reserved
    candidate = await actuators.launcher.bring_up(journal, bot, "candidate")
    if isinstance(candidate, Failed):
        return candidate
    address = await cutover.address(journal, bot)
    if isinstance(address, Failed):
        return address
    moved = await cutover.move(journal, bot, candidate.result, address.result, standby=request.instance_id)
    return moved if isinstance(moved, Failed) else candidate


@dataclass(frozen=True, slots=True)
class TierAction:
    """How a tier is carried out, settled, and which healthy answers prove no cure."""

    do: Do
    settle: Do
    reject: Reject


def _reject_if_unchanged(key: Literal["started_at", "boot_id"], reason: str) -> Reject:
    """Reject a healthy answer with the old value: it comes from before the tier, or despite it."""

    def reject(request: TierRequest, observation: Observation) -> str | None:
        now = getattr(observation, key)
        return reason if now is not None and now == getattr(request, key) else None

    return reject


def _reject_in_standby(request: TierRequest, observation: Observation) -> str | None:
    """Reject a new instance that has not seen yet that the token is its own, whatever the run is for."""
    return standby_of(request.bot, observation) or None


ACTIONS: Final[Mapping[Tier, TierAction]] = {
    "restart": TierAction(
        restart, settle_restart, _reject_if_unchanged("started_at", "it answers, but has not restarted")
    ),
    "reboot": TierAction(
        reboot, settle_reboot, _reject_if_unchanged("boot_id", "it answers, but has not rebooted")
    ),
    "redeploy": TierAction(redeploy, redeploy, _reject_in_standby),
}
