"""From a configuration to a healthy instance. What to ask of EC2 is pure; doing it is steps of a journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.cloudinit import user_data
from remediator.ec2 import MANAGED, Aws, AwsError, Instance, token_parameter
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.model import Bot
from remediator.observer import InstanceObserver
from remediator.prober import Look, Prober
from remediator.settings import Settings

TAG = "bot-orchestrator"


def launch_request(
    bot: Bot, *, image: str, deployment: str, role: str, attempt: int, settings: Settings
) -> dict[str, Any]:
    """RunInstances in full: every security option explicit, tags in the same call."""
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
        "InstanceType": bot.config["instance_type"],
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": f"{deployment}-{attempt}",
        "UserData": user_data(
            bot.config, bot.config_sha, region=settings.aws_region, parameter=token_parameter(bot.name)
        ),
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": volume}],
        "MetadataOptions": {
            "HttpTokens": "required",
            "HttpEndpoint": "enabled",
            "HttpPutResponseHopLimit": 1,
        },
        "CreditSpecification": {"CpuCredits": "standard"},
        "TagSpecifications": [
            {"ResourceType": resource, "Tags": tagged} for resource in ("instance", "volume")
        ],
    }
    if settings.security_group_ids:
        request["SecurityGroupIds"] = settings.security_group_ids
    if settings.subnet_id:
        request["SubnetId"] = settings.subnet_id
    if settings.key_name:
        request["KeyName"] = settings.key_name
    if settings.instance_profile:
        request["IamInstanceProfile"] = {"Name": settings.instance_profile}
    return request


@dataclass(frozen=True, slots=True)
class Launcher:
    """Brings instances up and takes them away; every step journaled, so that a crash doubles nothing."""

    aws: Aws
    observer: InstanceObserver
    prober: Prober
    settings: Settings

    async def bring_up(self, journal: Journal, bot: Bot, role: str) -> Outcome:
        """A running, healthy instance: Done({"instance_id", "address"}), or why not."""
        run = journal.run

        async def find_image(_: Mapping[str, Any]) -> Outcome:
            image = await self.aws.image_id(self.settings.ami)
            return Done({"image": image}, image)

        async def launch(request: Mapping[str, Any]) -> Outcome:
            instance_id = await self.aws.run_instance(request, journal.lease.check)
            return Done({"instance_id": instance_id}, f"{instance_id}, {request['InstanceType']}")

        image = await journal.step("image", find_image)
        if isinstance(image, Failed):
            return image
        request = launch_request(
            bot, image=image.result["image"], deployment=run.id, role=role, attempt=1, settings=self.settings
        )
        launched = await journal.step("launch", launch, request=request)
        if isinstance(launched, Failed):
            return launched
        instance_id: str = launched.result["instance_id"]
        deadline = (await journal.steps())["launch"].intended_at + self.settings.redeploy_timeout

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

    async def _running(self, instance_id: str, patience: float) -> Outcome:
        ended = ("running", "terminated", "shutting-down", "stopped", "stopping")
        found = await self.observer.wait_for(instance_id, ended, patience)
        if isinstance(found, AwsError):
            return Failed(str(found), denied=found.kind == "denied")
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

        async def terminate(_: Mapping[str, Any]) -> Outcome:
            ours = [
                instance.id
                for instance in (await self.aws.instances()).values()
                if instance.tags.get(f"{TAG}:deployment") == journal.run.id
            ]
            for instance_id in ours:
                await self.aws.terminate(instance_id, journal.lease.check)
            return Done({"instance_ids": ours}, f"{', '.join(ours) or 'no instance'} terminated: {why}")

        if "launch" not in await journal.steps():
            return "nothing had been launched"
        outcome = await journal.step("clean up", terminate)
        if isinstance(outcome, Failed):
            return f"what was launched could not be ended, and still costs: {outcome.why}"
        return "what was launched was terminated"
