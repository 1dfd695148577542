"""The end of a bot, in an order in which every step may be the last for a while:

    asked → stopped → snapshot → snapshot complete → terminated → address released → token deleted

and out of the registry, in the transaction that ends the run. A retirement that fails leaves the bot where it
stands, retiring and in quarantine; asked for again, it goes over what is left.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.caller import BOT_TAG, DEPLOYMENT_TAG, MANAGED, Instance
from remediator.ec2 import AwsError
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.launch import LIVE, TAG, Launcher
from remediator.lease import Lease
from remediator.model import Bot, Ended, Run
from remediator.store import Store

VOLUME_TAG: Final = f"{TAG}:volume"
LISTED_LATE: Final = 5.0  # seconds within which a snapshot made just before a crash is described
LOOK: Final = 0.5


@dataclass(frozen=True, slots=True)
class Retirement:
    """Drives one retirement; goes on where it was after a crash."""

    store: Store
    launcher: Launcher

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        journal = Journal(self.store, run, lease)
        asked = (await journal.steps())["asked"].request
        said: list[str] = []
        stopped = await self._stop(journal, bot.instance_id)
        steps = [self._terminate, self._release, self._forget]
        if asked["snapshot"] and not (isinstance(stopped, Done) and stopped.result.get("gone")):
            steps = [self._snapshot, self._completed, *steps]
        outcome: Outcome = stopped
        for step in steps:
            if isinstance(outcome, Failed):
                break
            said.append(outcome.detail)
            outcome = await step(journal, bot)
        if isinstance(outcome, Failed):
            done = f"after {'; '.join(said)}: " if said else ""
            return Ended("failed", f"{done}{outcome.why}; DELETE /bots/{bot.name} goes on with it")
        return Ended("retired", "; ".join([*said, outcome.detail]))

    async def _stop(self, journal: Journal, instance_id: str) -> Outcome:
        patience = self.launcher.settings.redeploy_timeout

        async def stop(_: Mapping[str, Any]) -> Outcome:
            observer, aws = self.launcher.observer, self.launcher.aws
            try:
                await aws.stop(instance_id, journal.lease.check)
            except AwsError as error:
                if error.kind != "gone":
                    raise
                return Done({"gone": True}, f"{instance_id or 'its instance'} was gone already")
            found = await observer.wait_for(instance_id, ("stopped", "terminated"), patience)
            if isinstance(found, AwsError):
                return Failed(found.told, denied=found.kind == "denied", kind=found.kind)
            if found is None:
                return Failed(f"{instance_id} did not stop in {patience:.0f} s")
            return Done({"gone": found.state == "terminated"}, f"{instance_id} {found.state}")

        return await journal.step("stopped", stop, request={"instance_id": instance_id})

    async def _snapshot(self, journal: Journal, bot: Bot) -> Outcome:
        """Of every disk of the instance, each found by its tags rather than taken twice."""

        async def snapshot(_: Mapping[str, Any], listed_late: float = 0) -> Outcome:
            instance = (await self.launcher.aws.instances()).get(bot.instance_id)
            taken = {}
            for volume in instance.volumes if instance is not None else ():
                found = await self._find(journal, volume, listed_late)
                if found is None:
                    tags = self._tags(journal, bot, volume)
                    made = await self.launcher.aws.create_snapshot(volume, tags, journal.lease.check)
                    found = made.id
                taken[volume] = found
            return Done({"snapshots": taken}, f"snapshot {', '.join(taken.values()) or '(no disk)'}")

        async def settle(request: Mapping[str, Any]) -> Outcome:
            return await snapshot(request, LISTED_LATE)

        return await journal.step("snapshot", snapshot, settle=settle)

    async def _find(self, journal: Journal, volume: str, patience: float) -> str | None:
        until = self.store.clock() + patience
        while True:
            found = await self.launcher.aws.find_snapshot(_of(journal, volume))
            if found is not None or self.store.clock() >= until:
                return found.id if found is not None else None
            await asyncio.sleep(LOOK)

    def _tags(self, journal: Journal, bot: Bot, volume: str) -> dict[str, str]:
        names = {"Name": f"bot-{bot.name}", MANAGED: "true", BOT_TAG: bot.name}
        return names | {f"{TAG}:config-sha": bot.config_sha} | _of(journal, volume)

    async def _completed(self, journal: Journal, bot: Bot) -> Outcome:
        """A disk is not given up before what is kept of it is there."""
        taken: Mapping[str, str] = (await journal.steps())["snapshot"].result["snapshots"]
        patience = self.launcher.settings.snapshot_timeout

        async def wait(request: Mapping[str, Any]) -> Outcome:
            for volume, snapshot_id in taken.items():
                while True:
                    found = await self.launcher.aws.find_snapshot(_of(journal, volume))
                    if found is not None and found.state == "completed":
                        break
                    if found is not None and found.state == "error":
                        return Failed(f"snapshot {snapshot_id} of {bot.name}'s {volume} failed in AWS")
                    if self.store.clock() >= request["until"]:
                        return Failed(f"snapshot {snapshot_id} was not completed in {patience:.0f} s")
                    await asyncio.sleep(self.launcher.observer.interval)
            return Done({}, "completed")

        return await journal.step("snapshot complete", wait, request={"until": self.store.clock() + patience})

    async def _terminate(self, journal: Journal, bot: Bot) -> Outcome:
        """Whatever carries the bot's name: also what an earlier run of it could not clean up."""

        async def terminate(_: Mapping[str, Any]) -> Outcome:
            found = await self.launcher.aws.instances()
            ours = [one.id for one in found.values() if _is_of(one, bot) and one.state in LIVE]
            for instance_id in ours:
                await self.launcher.aws.terminate(instance_id, journal.lease.check)
            return Done({"instance_ids": ours}, f"{', '.join(ours) or 'no instance'} terminated")

        return await journal.step("terminated", terminate)

    async def _release(self, journal: Journal, bot: Bot) -> Outcome:
        async def release(_: Mapping[str, Any]) -> Outcome:
            aws = self.launcher.aws
            found = [one for one in await aws.addresses() if one.tags.get(BOT_TAG) == bot.name]
            for address in found:
                await aws.release_address(address.allocation_id, journal.lease.check)
            named = ", ".join(address.public_ip for address in found)
            return Done({}, f"address {named} released" if named else "no address to release")

        return await journal.step("address released", release)

    async def _forget(self, journal: Journal, bot: Bot) -> Outcome:
        async def forget(_: Mapping[str, Any]) -> Outcome:
            await self.launcher.aws.delete_token(bot.name)
            return Done({}, "token deleted from SSM")

        return await journal.step("token deleted", forget)


def _of(journal: Journal, volume: str) -> dict[str, str]:
    return {DEPLOYMENT_TAG: journal.run.id, VOLUME_TAG: volume}


def _is_of(instance: Instance, bot: Bot) -> bool:
    mine = (bot.instance_id, bot.standby_instance_id)
    return instance.id in mine or instance.tags.get(BOT_TAG) == bot.name
