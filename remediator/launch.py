"""From a configuration to a healthy instance. What to ask of EC2 is pure; doing it is steps of a journal.

Each place that is tried is an attempt, with a step of its own (launch, launch-2, …) that holds the exact
request, and a ClientToken of its own: a repeat of a request runs nothing twice, and a changed one is never
sent under a token that was used. After a crash, or a lost answer, what runs under the token is adopted.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from remediator.cloudinit import user_data
from remediator.ec2 import DEPLOYMENT_TAG, MANAGED, Aws, AwsError, Instance, token_parameter
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.metrics import Metrics
from remediator.model import Bot, Step
from remediator.observer import InstanceObserver
from remediator.places import Place, places
from remediator.prober import Look, Prober
from remediator.settings import Settings
from remediator.turns import take_turn

TAG: Final = "bot-orchestrator"
LIVE: Final = ("pending", "running", "stopping", "stopped")
LOOK: Final = 1.0


def launch_request(
    bot: Bot, *, place: Place, image: str, deployment: str, role: str, attempt: int, settings: Settings
) -> dict[str, Any]:
    """RunInstances in full: every security option explicit, tags in the same call.

    No key unless a setting names one, and no security group of our own making. The instance may be terminated
    (by us alone: see iam/), and one that shuts itself down is stopped, so that nobody in it can erase it.
    """
    tags = {
        "Name": f"bot-{bot.name}",
        MANAGED: "true",
        f"{TAG}:bot": bot.name,
        f"{TAG}:deployment": deployment,
        f"{TAG}:config-sha": bot.config_sha,
        f"{TAG}:role": role,
    }
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    volume = {
        "VolumeSize": int(str(bot.config["storage"]).removesuffix("GB")),
        "VolumeType": "gp3",
        "Encrypted": True,
        "DeleteOnTermination": True,
    }
    request: dict[str, Any] = {
        "ImageId": image,
        "InstanceType": place.instance_type,
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": f"{deployment}-{attempt}",
        "UserData": user_data(
            bot.config,
            bot.config_sha,
            region=settings.aws_region,
            parameter=token_parameter(bot.name),
            restart_key=settings.ssh_public_key if settings.restarter == "ssh" else None,
            login=settings.key_name is not None,
        ),
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": volume}],
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        "DisableApiTermination": False,
        "InstanceInitiatedShutdownBehavior": "stop",
        "TagSpecifications": [
            {"ResourceType": resource, "Tags": tagged} for resource in ("instance", "volume")
        ],
    }
    if place.instance_type.startswith("t"):  # no other family knows credits
        request["CreditSpecification"] = {"CpuCredits": "standard"}
    if settings.security_group_ids:
        request["SecurityGroupIds"] = settings.security_group_ids
    if place.subnet:
        request["SubnetId"] = place.subnet
    if place.zone:
        request["Placement"] = {"AvailabilityZone": place.zone}
    if settings.key_name:
        request["KeyName"] = settings.key_name
    profile = settings.profile_of(bot.name)
    if profile:
        request["IamInstanceProfile"] = {"Name": profile}
    return request


@dataclass(frozen=True, slots=True)
class Launcher:
    """Brings instances up and takes them away; every step journaled, so that a crash doubles nothing."""

    aws: Aws
    observer: InstanceObserver
    prober: Prober
    settings: Settings
    metrics: Metrics

    async def bring_up(self, journal: Journal, bot: Bot, role: str) -> Outcome:
        """A running, healthy instance: Done({"instance_id", "address"}), or why not."""

        async def find_image(_: Mapping[str, Any]) -> Outcome:
            image = await self.aws.image_id(self.settings.ami)
            return Done({"image": image}, image)

        image = await journal.step("image", find_image)
        if isinstance(image, Failed):
            return image
        launched = await self._launch(journal, bot, image.result["image"], role)
        if isinstance(launched, Failed):
            return launched
        instance_id: str = launched.result["instance_id"]
        begun = max(step.finished_at or 0 for step in _launches(await journal.steps()))
        deadline = begun + self.settings.redeploy_timeout

        async def wait_running(_: Mapping[str, Any]) -> Outcome:
            return await self._running(instance_id, deadline - journal.store.clock())

        running = await journal.step("running", wait_running)
        if isinstance(running, Failed):
            return running
        address: str = running.result["address"]

        async def wait_healthy(_: Mapping[str, Any]) -> Outcome:
            return await self._healthy(bot, address, deadline - journal.store.clock())

        healthy = await journal.step("healthy", wait_healthy)
        if isinstance(healthy, Failed):
            return healthy
        up = {"instance_id": instance_id, **running.result}
        return Done({**healthy.result, **up})

    async def _launch(self, journal: Journal, bot: Bot, image: str, role: str) -> Outcome:
        """In the first place that has room for it."""

        async def launch(request: Mapping[str, Any]) -> Outcome:
            settings = self.settings
            await take_turn(journal.store, journal.lease, settings.launch_burst, settings.launch_refill)
            try:
                instance_id = await self.aws.run_instance(request, journal.lease.check)
            except AwsError as error:
                self.metrics.launch_errors.labels(error.series).inc()
                if not error.limit:
                    raise
                return Failed(error.told, kind="limit")
            return Done({"instance_id": instance_id}, f"{instance_id}, {request['InstanceType']}")

        async def adopt(request: Mapping[str, Any]) -> Outcome:
            try:
                launched = await self._of(journal.run.id)
            except AwsError as error:
                if error.kind != "denied":
                    raise
                return Failed(error.told, denied=True, kind="in_doubt")
            for instance in launched.values():
                if instance.client_token == request["ClientToken"] and instance.state in LIVE:
                    return Done({"instance_id": instance.id}, f"{instance.id}, found by its tag")
            return await launch(request)

        tried: list[str] = []
        for attempt, place in enumerate(places(bot.config, self.settings), 1):
            facts: Any = {"image": image, "deployment": journal.run.id, "role": role, "attempt": attempt}
            request = launch_request(bot, place=place, settings=self.settings, **facts)
            name = "launch" if attempt == 1 else f"launch-{attempt}"
            deadline = journal.store.clock() + self.settings.redeploy_timeout / 3
            outcome = await journal.step(name, launch, request=request, settle=adopt, deadline=deadline)
            if isinstance(outcome, Done) or outcome.kind != "capacity":
                return outcome
            tried.append(f"{place}: {outcome.why}")
        return (
            outcome if len(tried) == 1 else Failed(f"no room anywhere; {'; '.join(tried)}", kind="capacity")
        )

    async def _of(self, run_id: str) -> dict[str, Instance]:
        """What was launched under the tag of a run."""
        found = (await self.aws.instances()).values()
        return {one.id: one for one in found if one.tags.get(DEPLOYMENT_TAG) == run_id}

    async def _running(self, instance_id: str, patience: float) -> Outcome:
        ended = ("running", "terminated", "shutting-down", "stopped", "stopping")
        found = await self.observer.wait_for(instance_id, ended, patience)
        if isinstance(found, AwsError):
            return Failed(found.told, denied=found.kind == "denied", kind=found.kind)
        if found is None:
            return Failed(f"{instance_id} was not running in {self.settings.redeploy_timeout:.0f} s")
        if found.state != "running":
            return Failed(f"{instance_id} is {found.state}: {found.reason or 'no reason given'}")
        address = self.address_of(found)
        if not address:
            return Failed(f"{instance_id} has no {self.settings.address} address")
        return Done({"address": address, "zone": found.zone}, f"{instance_id} at {address}")

    def address_of(self, instance: Instance) -> str:
        wants_public = self.settings.address == "public"
        return instance.public_address if wants_public else instance.private_address

    async def _healthy(self, bot: Bot, host: str, patience: float) -> Outcome:
        def doubt(look: Look) -> str | None:
            if look.config_sha in (None, bot.config_sha):
                return None
            return f"it runs configuration {look.config_sha}, not {bot.config_sha}"

        address = f"{host}:{bot.config['probe']['port']}"
        healthy, look = await self.prober.verify(bot.target(address), patience, doubt)
        if not healthy:
            return Failed(f"not healthy in {self.settings.redeploy_timeout:.0f} s: {look.seen}")
        return Done({"boot_id": look.boot_id, "started_at": look.started_at}, look.seen)

    async def take_away(self, journal: Journal, why: str) -> str:
        """Terminate whatever carries this run's tag, also where the answer to its launch was lost.

        Gives what was done in words, for the person who reads how the run ended.
        """

        launches = _launches(await journal.steps())
        if not launches:
            return "nothing had been launched"
        known = {step.result["instance_id"] for step in launches if step.state == "done"}
        in_doubt = any(_in_doubt(step) for step in launches)
        grace = self.settings.launch_grace if known or in_doubt else 0

        async def terminate(request: Mapping[str, Any]) -> Outcome:
            while True:
                seen = await self._of(journal.run.id)
                ours = [instance.id for instance in seen.values() if instance.state in LIVE]
                all_seen = known <= seen.keys() and bool(ours or not in_doubt)
                if all_seen or journal.store.clock() >= request["until"]:
                    break
                await asyncio.sleep(min(self.observer.interval, LOOK))  # EC2 shows a new one after a while
            for instance_id in ours:
                await self.aws.terminate(instance_id, journal.lease.check)
            return Done({"instance_ids": ours}, f"{', '.join(ours) or 'no instance'} terminated: {why}")

        now = journal.store.clock()
        patient = now + self.settings.redeploy_timeout
        outcome = await journal.step("clean up", terminate, request={"until": now + grace}, deadline=patient)
        if isinstance(outcome, Failed):
            return f"what was launched could not be ended, and still costs: {outcome.why}"
        return "what was launched was terminated"


def _launches(steps: Mapping[str, Step]) -> list[Step]:
    return [step for name, step in steps.items() if name == "launch" or name.startswith("launch-")]


def _in_doubt(step: Step) -> bool:
    """EC2 may have carried it out, and may show it only after a while."""
    return step.state == "intended" or step.result.get("kind") in ("in_doubt", "unavailable")
