"""Whether an instance that runs already may become a bot: nobody's, running, and healthy as that bot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from remediator.aws.aws import Aws
from remediator.aws.instances import Instance
from remediator.aws.tags import DEPLOYMENT_TAG
from remediator.configuration.rendering import rendered
from remediator.errors import Refused
from remediator.model import Bot
from remediator.monitoring.prober import Observation, Prober
from remediator.provisioning.deploy import template_named
from remediator.provisioning.launch_request import require_launchable
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from templates import Templates
from templates.instance_types import INSTANCE_TYPES


@dataclass(frozen=True, slots=True)
class AdoptSpec:
    """An instance to be adopted. `address`: HOST or HOST:PORT; empty: the instance's own."""

    bot: str
    template: str
    environment: str
    instance_id: str
    address: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AdoptionCheck:
    """Reads the registry, EC2 and the bot's answer; changes nothing. AwsError where EC2 does not answer."""

    store: Store
    aws: Aws
    prober: Prober
    settings: Settings
    templates: Templates

    async def check(self, spec: AdoptSpec) -> tuple[Bot, Mapping[str, Any], Instance]:
        """Return the bot, the facts that `adopt.begin` writes down, and the instance; or raise Refused.

        In the transaction that begins the run, `require_unclaimed` is to be asked once more.
        """
        template = template_named(self.templates, spec.template, spec.environment)
        config, config_sha = rendered(spec.bot, spec.environment, template, spec.overrides)
        require_launchable(spec.bot, config, config_sha, self.settings)
        async with self.store.read() as tx:
            await require_unclaimed(tx, spec)
        instance = await self._running(spec.instance_id)
        require_architecture(instance.type, str(config["instance_type"]))
        bot = Bot.registered(
            spec.bot,
            config,
            config_sha,
            overrides=spec.overrides,
            instance_id=spec.instance_id,
            address=self._address(spec, instance, config["probe"]["port"]),
        )
        observation = await self._healthy(bot)
        elastic_ip = await self.aws.address_of(instance.id)
        facts = {
            "instance_id": instance.id,
            "volumes": list(instance.volumes),
            "address": bot.address,
            "zone": instance.zone,
            "boot_id": observation.boot_id,
            "started_at": observation.started_at,
            "allocation_id": elastic_ip.allocation_id if elastic_ip is not None else "",
        }
        return bot, facts, instance

    async def _running(self, instance_id: str) -> Instance:
        instance = await self.aws.any_instance(instance_id)
        if instance is None:
            remedy = f"name an instance of {self.settings.aws_region}, as i-0123456789abcdef0"
            raise Refused("invalid", f"there is no {instance_id!r}", field="instanceId", remedy=remedy)
        if instance.state != "running":
            remedy = "start it, and ask again"
            raise Refused("conflict", f"{instance_id} is {instance.state}", field="instanceId", remedy=remedy)
        return instance

    def _address(self, spec: AdoptSpec, instance: Instance, port: int) -> str:
        """Return HOST:PORT at which the bot answers."""
        kind = self.settings.address
        own = instance.public_address if kind == "public" else instance.private_address
        host = spec.address or own
        if not host:
            remedy = "send the address at which the bot answers, as HOST or HOST:PORT"
            raise Refused("invalid", f"it has no {kind} address", field="address", remedy=remedy)
        return host if ":" in host else f"{host}:{port}"

    async def _healthy(self, bot: Bot) -> Observation:
        healthy, observation = await self.prober.verify(bot.target(), self.settings.probe_timeout)
        if observation.own_fault:
            raise Refused(
                "unavailable",
                f"{bot.address} could not be looked at: {observation.detail}",
                field="instanceId",
                remedy="the fault is this service's, not the bot's: see what it lacks, then ask again",
            )
        if not healthy:
            raise Refused(
                "invalid",
                f"no healthy answer at {bot.address}: {observation.detail}",
                field="instanceId",
                remedy="see that its bot is up and reached from here, or send another address",
            )
        return observation


async def require_unclaimed(tx: Transaction, spec: AdoptSpec, instance: Instance | None = None) -> None:
    """Raise Refused (conflict) where the name is taken, or another bot or run has the instance."""
    if await tx.bot(spec.bot) is not None:
        raise name_taken(spec.bot)
    for bot in await tx.bots():
        if spec.instance_id in (bot.instance_id, bot.standby_instance_id):
            remedy = f"DELETE /bots/{bot.name} retires that bot, or name another instance"
            raise Refused("conflict", f"it is the bot {bot.name!r}'s", field="instanceId", remedy=remedy)
    deployment = instance.tags.get(DEPLOYMENT_TAG, "") if instance is not None else ""
    run = await tx.run(deployment) if deployment else None
    if run is not None and run.finished_at is None:
        remedy = f"ask again when {run.id} has ended"
        raise Refused("conflict", f"{run.id} is launching it", field="instanceId", remedy=remedy)


def require_architecture(real: str, declared: str) -> None:
    """Raise Refused where the next redeploy would bring another architecture than the instance has."""
    has, would_have = INSTANCE_TYPES.get(real), INSTANCE_TYPES.get(declared)
    if has is None or would_have is None or has.architecture == would_have.architecture:
        return
    problem = f"it is a {real} ({has.architecture}), and {declared} of the bot is {would_have.architecture}"
    remedy = f"send it with overrides.instance_type {real}"
    raise Refused("invalid", problem, field="instanceId", remedy=remedy)


def name_taken(bot: str) -> Refused:
    """Return the refusal of a name that another bot has."""
    remedy = "choose another name, or retire that bot"
    return Refused("conflict", f"a bot {bot!r} exists already", field="botName", remedy=remedy)
