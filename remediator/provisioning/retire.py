"""The end of a bot, in an order in which every step may be the last for a while:

    asked → stopped → snapshot → snapshot complete → terminated → address released → token deleted

and out of the registry, in the transaction that ends the run. A retirement that fails leaves the bot where it
stands, retiring and in quarantine; asked for again, it goes over what is left.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.client import DESCRIBED_WITHIN
from remediator.aws.instance_waiter import InstanceWaiter
from remediator.aws.instances import Instance
from remediator.aws.tags import BOT_TAG, CONFIG_SHA_TAG, DEPLOYMENT_TAG, MANAGED_TAG, VOLUME_TAG
from remediator.engine.journal import Done, Failed, Journal, Outcome, begin_run
from remediator.model import Bot, Ended, Run
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.instance_stop import stop_instance
from remediator.provisioning.launcher import LIVE
from remediator.settings import Settings
from remediator.store.lease import Lease
from remediator.store.store import Store
from remediator.store.transaction import Transaction

POLL_INTERVAL: Final = 0.5  # seconds


async def begin(tx: Transaction, bot: Bot, *, snapshot: bool, actor: str) -> Run:
    """Write down that the bot retires, with a last snapshot of its disks or without.

    The bot is idle; drive the run once the transaction is kept.
    """
    await tx.change_bot(bot.name, state="retiring")
    reason = "with a final snapshot" if snapshot else "without a snapshot"
    run = Run.begin("retire", bot=bot.name, reason=reason, at=tx.now)
    return await begin_run(tx, run, {"instance_id": bot.instance_id, "snapshot": snapshot}, actor)


@dataclass(frozen=True, slots=True)
class Retirement:
    """Drives one retirement; goes on where it was after a crash."""

    store: Store
    aws: Aws
    waiter: InstanceWaiter
    cutover: Cutover
    settings: Settings

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        """Drive the run to its end, or to the first step that fails."""
        journal = Journal(self.store, run, lease)
        request = (await journal.steps())["asked"].request
        patience = self.settings.redeploy_timeout
        outcome = await stop_instance(journal, self.aws, self.waiter, bot.instance_id, patience)
        steps = [self._terminate, self.cutover.release, self._delete_token]
        if request["snapshot"] and not (isinstance(outcome, Done) and outcome.result.get("gone")):
            steps = [self._snapshot, self._complete, *steps]
        details: list[str] = []
        for step in steps:
            if isinstance(outcome, Failed):
                break
            details.append(outcome.detail)
            outcome = await step(journal, bot)
        if isinstance(outcome, Failed):
            done = f"after {'; '.join(details)}: " if details else ""
            return Ended("failed", f"{done}{outcome.reason}; DELETE /bots/{bot.name} goes on with it")
        return Ended("retired", "; ".join([*details, outcome.detail]))

    async def _snapshot(self, journal: Journal, bot: Bot) -> Outcome:
        """Begin a snapshot of every disk of the instance; one that has its tags is not made twice."""

        async def snapshot(_: Mapping[str, Any], patience: float = 0) -> Outcome:
            instance = (await self.aws.instances()).get(bot.instance_id)
            snapshots = {}
            for volume_id in instance.volumes if instance is not None else ():
                snapshot_id = await self._find_snapshot(journal, volume_id, patience)
                if snapshot_id is None:
                    tags = _tags(journal, bot, volume_id)
                    created = await self.aws.create_snapshot(volume_id, tags, journal.lease.check)
                    snapshot_id = created.id
                snapshots[volume_id] = snapshot_id
            detail = f"snapshot {', '.join(snapshots.values()) or '(no disk)'}"
            return Done({"snapshots": snapshots}, detail)

        async def settle(request: Mapping[str, Any]) -> Outcome:
            return await snapshot(request, DESCRIBED_WITHIN)

        return await journal.step("snapshot", snapshot, settle=settle)

    async def _find_snapshot(self, journal: Journal, volume_id: str, patience: float) -> str | None:
        """Return the id of this run's snapshot of the volume, once EC2 lists it within `patience` seconds."""
        until = self.store.clock() + patience
        while True:
            snapshot = await self.aws.find_snapshot(_own_tags(journal, volume_id))
            if snapshot is not None or self.store.clock() >= until:
                return snapshot.id if snapshot is not None else None
            await asyncio.sleep(POLL_INTERVAL)

    async def _complete(self, journal: Journal, bot: Bot) -> Outcome:
        """Wait until every snapshot is complete: no disk is given up before."""
        snapshots: Mapping[str, str] = (await journal.steps())["snapshot"].result["snapshots"]

        async def wait(request: Mapping[str, Any]) -> Outcome:
            for volume_id, snapshot_id in snapshots.items():
                tags = _own_tags(journal, volume_id)
                failed = await self._await_snapshot(tags, request["until"])
                if failed is not None:
                    return Failed(f"snapshot {snapshot_id} of {bot.name}'s {volume_id} {failed}")
            return Done({}, "completed")

        until = self.store.clock() + self.settings.snapshot_timeout
        return await journal.step("snapshot complete", wait, request={"until": until})

    async def _await_snapshot(self, tags: Mapping[str, str], until: float) -> str | None:
        """Wait for the snapshot with these tags until a Unix time; return why it is not complete."""
        while True:
            snapshot = await self.aws.find_snapshot(tags)
            if snapshot is not None and snapshot.state == "completed":
                return None
            if snapshot is not None and snapshot.state == "error":
                return "failed in AWS"
            if self.store.clock() >= until:
                return f"was not completed in {self.settings.snapshot_timeout:.0f} s"
            await asyncio.sleep(self.waiter.interval)

    async def _terminate(self, journal: Journal, bot: Bot) -> Outcome:
        """Terminate all that carries the bot's name: also what an earlier run of it could not clean up."""

        async def terminate(_: Mapping[str, Any]) -> Outcome:
            instances = (await self.aws.instances()).values()
            ids = [instance.id for instance in instances if _is_of(instance, bot) and instance.state in LIVE]
            for instance_id in ids:
                await self.aws.terminate(instance_id, journal.lease.check)
            return Done({"instance_ids": ids}, f"{', '.join(ids) or 'no instance'} terminated")

        return await journal.step("terminated", terminate)

    async def _delete_token(self, journal: Journal, bot: Bot) -> Outcome:
        return await self.cutover.delete_token(journal, bot, name="token deleted")


def _tags(journal: Journal, bot: Bot, volume_id: str) -> dict[str, str]:
    """Return all tags of this run's snapshot of a volume."""
    names = {"Name": f"bot-{bot.name}", MANAGED_TAG: "true", BOT_TAG: bot.name}
    return names | {CONFIG_SHA_TAG: bot.config_sha} | _own_tags(journal, volume_id)


def _own_tags(journal: Journal, volume_id: str) -> dict[str, str]:
    """Return the tags that no snapshot has but this run's of that volume."""
    return {DEPLOYMENT_TAG: journal.run.id, VOLUME_TAG: volume_id}


def _is_of(instance: Instance, bot: Bot) -> bool:
    ids = (bot.instance_id, bot.standby_instance_id)
    return instance.id in ids or instance.tags.get(BOT_TAG) == bot.name
