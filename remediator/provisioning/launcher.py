"""From a configuration to a healthy instance, in steps of a journal.

Each placement that is tried is an attempt, with a step of its own (launch, launch-2, …) that holds the exact
request, and a ClientToken of its own: a repeat of a request runs nothing twice, and a changed one is never
sent under a token that was used. After a crash, or a lost answer, what runs under the token is adopted.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_waiter import InstanceWaiter
from remediator.aws.instances import Instance
from remediator.aws.tags import DEPLOYMENT_TAG
from remediator.configuration.rendering import files_of
from remediator.engine.journal import Done, Effect, Failed, Journal, Outcome
from remediator.metrics import Metrics
from remediator.model import Bot, Step
from remediator.monitoring.prober import Prober
from remediator.provisioning.files_keeper import FilesKeeper
from remediator.provisioning.launch_limiter import wait_for_slot
from remediator.provisioning.launch_request import launch_request
from remediator.provisioning.placement import placements
from remediator.provisioning.verification import verify_bot
from remediator.settings import Settings

LIVE: Final = ("pending", "running", "stopping", "stopped")  # states in which an instance costs
POLL_INTERVAL: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Launcher:
    """Brings instances up and takes them away; every step journaled, so that a crash doubles nothing."""

    aws: Aws
    files: FilesKeeper
    waiter: InstanceWaiter
    prober: Prober
    settings: Settings
    metrics: Metrics

    async def bring_up(self, journal: Journal, bot: Bot, role: str) -> Outcome:
        """Launch an instance for the bot, and wait until the bot on it is healthy.

        Done({"instance_id", "address", "zone", "boot_id", "started_at"}), or why there is none.
        """

        async def find_image(_: Mapping[str, Any]) -> Outcome:
            image = await self.aws.image_id(self.settings.image_of(str(bot.config["instance_type"])))
            return Done({"image": image}, image)

        image = await journal.step("image", find_image)
        if isinstance(image, Failed):
            return image
        launched = await self._launch(journal, bot, image.result["image"], role)
        if isinstance(launched, Failed):
            return launched
        instance_id: str = launched.result["instance_id"]
        launched_at = max(step.finished_at or 0 for step in _launches(await journal.steps()))
        deadline = launched_at + self.settings.redeploy_timeout

        async def wait_running(_: Mapping[str, Any]) -> Outcome:
            return await self._running(instance_id, deadline - journal.store.clock())

        running = await journal.step("running", wait_running)
        if isinstance(running, Failed):
            return running
        address = f"{running.result['address']}:{bot.config['probe']['port']}"

        async def wait_healthy(_: Mapping[str, Any]) -> Outcome:
            return await self._healthy(bot, address, deadline - journal.store.clock())

        healthy = await journal.step("healthy", wait_healthy)
        if isinstance(healthy, Failed):
            return healthy
        return Done({**healthy.result, "instance_id": instance_id, **running.result})

    async def _launch(self, journal: Journal, bot: Bot, image: str, role: str) -> Outcome:
        """Launch it at the first placement that has capacity."""

        async def launch(request: Mapping[str, Any]) -> Outcome:
            settings = self.settings
            await self.files.keep(files_of(bot.config))
            await wait_for_slot(journal.store, journal.lease, settings.launch_burst, settings.launch_refill)
            try:
                instance_id = await self.aws.run_instance(request, journal.lease.check)
            except AwsError as error:
                self.metrics.launch_errors.labels(error.launch_error_label).inc()
                if not error.limit:
                    raise
                return Failed(error.with_remedy, kind="limit")
            return Done({"instance_id": instance_id}, f"{instance_id}, {request['InstanceType']}")

        async def adopt(request: Mapping[str, Any]) -> Outcome:
            try:
                instances = await self._launched_by(journal.run.id)
            except AwsError as error:
                if error.kind != "denied":
                    raise
                return Failed(error.with_remedy, denied=True, kind="in_doubt")
            for instance in instances.values():
                if instance.client_token == request["ClientToken"] and instance.state in LIVE:
                    return Done({"instance_id": instance.id}, f"{instance.id}, found by its tag")
            return await launch(request)

        failures: list[str] = []
        for attempt, placement in enumerate(placements(bot.config, self.settings), 1):
            facts: Any = {"image": image, "deployment": journal.run.id, "role": role, "attempt": attempt}
            name = "launch" if attempt == 1 else f"launch-{attempt}"
            try:
                request = launch_request(bot, placement=placement, settings=self.settings, **facts)
            except ValueError as error:
                return await journal.step(name, _failing(f"not launched: {error}"), settle=adopt)
            deadline = journal.store.clock() + self.settings.redeploy_timeout / 3
            outcome = await journal.step(name, launch, request=request, settle=adopt, deadline=deadline)
            if isinstance(outcome, Done) or outcome.kind != "capacity":
                return outcome
            failures.append(f"{placement}: {outcome.reason}")
        if len(failures) == 1:
            return outcome
        return Failed(f"no room anywhere; {'; '.join(failures)}", kind="capacity")

    async def _launched_by(self, run_id: str) -> dict[str, Instance]:
        """Return the instances that carry the tag of a run, by id."""
        instances = await self.aws.instances()
        return {
            id_: instance
            for id_, instance in instances.items()
            if instance.tags.get(DEPLOYMENT_TAG) == run_id
        }

    async def _running(self, instance_id: str, patience: float) -> Outcome:
        states = ("running", "terminated", "shutting-down", "stopped", "stopping")
        instance = await self.waiter.wait_for(instance_id, states, patience)
        if isinstance(instance, AwsError):
            return Failed(instance.with_remedy, denied=instance.kind == "denied", kind=instance.kind)
        if instance is None:
            return Failed(f"{instance_id} was not running in {self.settings.redeploy_timeout:.0f} s")
        if instance.state != "running":
            return Failed(f"{instance_id} is {instance.state}: {instance.reason or 'no reason given'}")
        address = instance.address(self.settings.address)
        if not address:
            return Failed(f"{instance_id} has no {self.settings.address} address")
        return Done({"address": address, "zone": instance.zone}, f"{instance_id} at {address}")

    async def _healthy(self, bot: Bot, address: str, patience: float) -> Outcome:
        outcome = await verify_bot(self.prober, bot, address, patience)
        if isinstance(outcome, Failed):
            return Failed(f"not healthy in {self.settings.redeploy_timeout:.0f} s: {outcome.reason}")
        return outcome

    async def clean_up(self, journal: Journal, reason: str) -> str:
        """Terminate all that carries this run's tag, also where the answer to its launch was lost.

        Return what was done in words, for the person who reads how the run ended.
        """
        launches = _launches(await journal.steps())
        if not launches:
            return "nothing had been launched"
        expected = {step.result["instance_id"] for step in launches if step.state == "done"}
        in_doubt = any(_in_doubt(step) for step in launches)
        grace = self.settings.launch_grace if expected or in_doubt else 0

        async def terminate(request: Mapping[str, Any]) -> Outcome:
            while True:
                instances = await self._launched_by(journal.run.id)
                ids = [instance.id for instance in instances.values() if instance.state in LIVE]
                complete = expected <= instances.keys() and bool(ids or not in_doubt)
                if complete or journal.store.clock() >= request["until"]:
                    break
                # EC2 shows a new one after a while
                await asyncio.sleep(min(self.waiter.interval, POLL_INTERVAL))
            for instance_id in ids:
                await self.aws.terminate(instance_id, journal.lease.check)
            return Done({"instance_ids": ids}, f"{', '.join(ids) or 'no instance'} terminated: {reason}")

        now = journal.store.clock()
        deadline = now + self.settings.redeploy_timeout
        outcome = await journal.step("clean up", terminate, request={"until": now + grace}, deadline=deadline)
        if isinstance(outcome, Failed):
            return f"what was launched could not be ended, and still costs: {outcome.reason}"
        return "what was launched was terminated"


def _failing(reason: str) -> Effect:
    """Return a step's effect that is not to be had."""

    async def fail(_: Mapping[str, Any]) -> Outcome:
        return Failed(reason)

    return fail


def _launches(steps: Mapping[str, Step]) -> list[Step]:
    return [step for name, step in steps.items() if name == "launch" or name.startswith("launch-")]


def _in_doubt(step: Step) -> bool:
    """Return whether EC2 may have carried it out, and may show it only after a while."""
    return step.state == "intended" or step.result.get("kind") in ("in_doubt", "unavailable")
