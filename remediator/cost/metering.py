"""Records what instances, volumes and addresses cost an hour. The worker runs it, one replica at a time."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance
from remediator.aws.tags import DEPLOYMENT_TAG
from remediator.cost.estimate import Estimate, Rate, changed, estimate, parts_of, surplus_vcpus
from remediator.cost.price_table import PriceTable
from remediator.cost.repository import CostRepository
from remediator.cost.usage_queries import read_busy_vcpus
from remediator.model import Bot
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.store.store import Store
from templates.instance_types import INSTANCE_TYPES, InstanceType

log = structlog.get_logger()

ADOPTION_PREFIX: Final = "ado-"  # of the runs that made an instance of somebody else's ours
RECORDED_AT: Final = "cost_round"  # the fact: when rates were last recorded (Unix seconds)


@dataclass
class CostMeter:
    """What each bot costs an hour, by the registry and by what EC2 and Prometheus last answered."""

    store: Store
    aws: Aws
    prometheus: Prometheus | None
    region: str
    instances: Mapping[str, Instance] | None = None  # by id; None: not read yet
    busy_vcpus: Mapping[str, float] = field(default_factory=dict)  # the last day's mean, by bot

    async def refresh_instances(self) -> None:
        """Read instances and their CPU again. What cannot be read stays as it was."""
        try:
            self.instances = await self.aws.instances()
        except AwsError as error:
            log.warning("addresses as last seen: EC2 cannot be asked", error=str(error))
        if self.prometheus is not None:
            try:
                self.busy_vcpus = await read_busy_vcpus(self.prometheus, self.store.clock())
            except PrometheusError as error:
                log.warning("CPU credits as last seen", error=str(error))

    def estimate(self, bot: Bot, prices: PriceTable) -> Estimate:
        """Return what the bot costs an hour, by what is registered and what was read of its instance."""
        instance = self._instance(bot)
        parts = parts_of(
            bot.config,
            volumes=1 + bool(bot.standby_instance_id),
            addresses=_addresses(bot, instance),
            surplus_vcpus=self._surplus(bot, instance),
            running=instance is None or instance.state in ("pending", "running", "stopping"),
        )
        if instance is not None and instance.type:  # another one where the bot's own had no capacity
            parts = replace(parts, instance_type=instance.type)
        return estimate(parts, prices)

    def size(self, bot: Bot) -> InstanceType | None:
        """Return the size of the instance that the bot has now; None where it is not known."""
        instance = self._instance(bot)
        return None if instance is None else INSTANCE_TYPES.get(instance.type)

    async def record_rates(self) -> None:
        """Write down what each component costs from now on; the others keep the row that they have."""
        async with self.store.write() as tx:
            repository = CostRepository(tx)
            prices = await repository.current_prices(self.region)
            recorded_at = await tx.fact(RECORDED_AT) or tx.now
            rates = [
                Rate(
                    bot=bot.name,
                    template=bot.template,
                    environment=bot.environment,
                    component=component,
                    since=bot.created_at if bot.created_at > recorded_at else tx.now,
                    until=None,
                    usd_per_hour=usd,
                )
                for bot in await tx.bots()
                if bot.instance_id
                for component, usd in self.estimate(bot, prices).usd_per_hour.items()
            ]
            close, add = changed(await repository.open_rates(), rates)
            await repository.change_rates(close, add)
            await tx.set_fact(RECORDED_AT, tx.now)

    def _instance(self, bot: Bot) -> Instance | None:
        return (self.instances or {}).get(bot.instance_id)

    def _surplus(self, bot: Bot, instance: Instance | None) -> float | None:
        """Return the vCPUs beyond the baseline; None where that is not known.

        0 for what we launched: its credits are `standard`. An adopted instance may have `unlimited` ones.
        """
        if instance is None:
            return None
        if not instance.tags.get(DEPLOYMENT_TAG, ADOPTION_PREFIX).startswith(ADOPTION_PREFIX):
            return 0.0
        size, busy = INSTANCE_TYPES.get(instance.type), self.busy_vcpus.get(bot.name)
        if size is None or busy is None:
            return None
        # The default of all but T2 is `unlimited`.
        return surplus_vcpus(busy / size.vcpus, size.vcpus, size.baseline)


def _addresses(bot: Bot, instance: Instance | None) -> int | None:
    """Return how many public addresses the bot has; None where that is not known."""
    if bot.allocation_id or (instance is not None and instance.public_address):
        return 1
    return None if instance is None else 0
