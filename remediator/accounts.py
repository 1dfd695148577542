"""Writes down what bots and their models cost, and keeps prices fresh. One replica at a time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from remediator.awserror import AwsError
from remediator.caller import DEPLOYMENT_TAG, Instance
from remediator.cost import Estimate, ModelSpend, Rate, changed, estimate, month_of, parts_of, surplus_vcpus
from remediator.ec2 import Aws
from remediator.evidence import read_busy_vcpus, read_counters
from remediator.ledger import Ledger
from remediator.metrics import Metrics
from remediator.model import Bot
from remediator.model_prices import Counters, Requests, aliased, between, priced
from remediator.prices import PriceTable, newer, shipped
from remediator.pricing import Pricing, PricingError
from remediator.prometheus import Prometheus, PrometheusError
from remediator.settings import Settings
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.usage import SHAPES, Shape

log = structlog.get_logger()

ADOPTED: Final = "ado-"  # the runs that made an instance of somebody else's ours
DAY: Final = 86400.0
FURTHEST: Final = 6 * 3600.0  # of usage read at once; more is caught up in the next rounds
COUNTED: Final = "usage_counted"  # up to when
PATIENCE: Final = 3600.0  # seconds before a refresh that failed is tried again


@dataclass
class Accounts:
    store: Store
    aws: Aws
    prometheus: Prometheus | None
    pricing: Pricing | None
    metrics: Metrics
    settings: Settings
    instances: Mapping[str, Instance] | None = None  # as last seen; None: not yet
    busy: Mapping[str, float] = field(default_factory=dict)  # vCPUs, the last day's mean, by bot
    refreshed_at: float = float("-inf")  # when the pricing API was last asked

    @property
    def aliases(self) -> dict[str, str]:
        """What price lists call a model."""
        pairs = (pair.partition("=") for pair in self.settings.model_priced_as)
        return {model: known for model, _, known in pairs}

    async def prices(self, tx: Transaction) -> PriceTable:
        """The last good ones, or those that came with this version."""
        region = self.settings.aws_region
        return await Ledger(tx).prices(region) or shipped(region)

    async def round(self) -> None:
        """Once. Everything that is away is left for the next round."""
        await self.look()
        async with self.store.write() as tx:
            await self._keep_rates(tx)
        await self._count_usage()
        await self._refresh_prices()

    # what instances, volumes and addresses cost

    async def look(self) -> None:
        try:
            self.instances = await self.aws.instances()
        except AwsError as error:
            log.warning("addresses as last seen: EC2 cannot be asked", error=str(error))
        if self.prometheus is not None:
            try:
                self.busy = await read_busy_vcpus(self.prometheus, self.store.clock())
            except PrometheusError as error:
                log.warning("CPU credits as last seen", error=str(error))

    def estimate(self, bot: Bot, prices: PriceTable) -> Estimate:
        """What the bot costs an hour, by what is registered and what was last seen of its instance."""
        seen = (self.instances or {}).get(bot.instance_id)
        parts = parts_of(
            bot.config,
            volumes=1 + bool(bot.standby_instance_id),
            addresses=self._addresses(bot, seen),
            surplus_vcpus=self._surplus(bot, seen),
            running=seen is None or seen.state in ("pending", "running", "stopping"),
        )
        if seen is not None and seen.type:  # another one where the bot's own had no capacity
            parts = replace(parts, instance_type=seen.type)
        return estimate(parts, prices)

    def shape(self, bot: Bot) -> Shape | None:
        """Of the instance that the bot has now, as last seen."""
        seen = (self.instances or {}).get(bot.instance_id)
        return None if seen is None else SHAPES.get(seen.type)

    def _addresses(self, bot: Bot, seen: Instance | None) -> int | None:
        if bot.allocation_id or (seen is not None and seen.public_address):
            return 1
        return None if seen is None else 0

    def _surplus(self, bot: Bot, seen: Instance | None) -> float | None:
        """0 for what we launched: its credits are `standard`. Of what was adopted that is not known."""
        if seen is None:
            return None
        if not seen.tags.get(DEPLOYMENT_TAG, ADOPTED).startswith(ADOPTED):
            return 0.0
        shape, busy = SHAPES.get(seen.type), self.busy.get(bot.name)
        if shape is None or busy is None:
            return None
        # T3's own default is `unlimited`.
        return surplus_vcpus(busy / shape.vcpus, shape.vcpus, shape.baseline)

    async def _keep_rates(self, tx: Transaction) -> None:
        ledger, prices = Ledger(tx), await self.prices(tx)
        last = await tx.fact("cost_round") or tx.now
        wanted = [
            Rate(
                bot=bot.name,
                template=bot.template,
                environment=bot.environment,
                component=component,
                since=bot.created_at if bot.created_at > last else tx.now,
                until=None,
                usd_per_hour=usd,
            )
            for bot in await tx.bots()
            if bot.instance_id
            for component, usd in self.estimate(bot, prices).usd_per_hour.items()
        ]
        close, add = changed(await ledger.open_rates(), wanted, tx.now)
        await ledger.change_rates(close, add)
        await tx.set_fact("cost_round", tx.now)

    # what models cost

    async def _count_usage(self) -> None:
        """What bots reported since the last round, priced by request as far as probes tell them apart."""
        if self.prometheus is None:
            return
        async with self.store.read() as tx:
            bots = {bot.name: bot for bot in await tx.bots()}
            marks = await Ledger(tx).marks()
            until = tx.now
            start = await tx.fact(COUNTED)
        end = until if start is None else min(until, start + FURTHEST)
        try:
            points = await read_counters(self.prometheus, end if start is None else start, end)
        except PrometheusError as error:
            log.warning("usage not counted", error=str(error))
            return
        spends, reached = await asyncio.to_thread(self._priced, bots, marks, points)
        async with self.store.write() as tx:
            if await tx.fact(COUNTED) == start:  # no other replica has counted the same meanwhile
                await Ledger(tx).add_spend(spends)
                await Ledger(tx).keep_marks(reached, marks)
                await tx.set_fact(COUNTED, end)

    def _priced(
        self,
        bots: Mapping[str, Bot],
        marks: Mapping[str, Counters],
        points: Mapping[str, Sequence[Counters]],
    ) -> tuple[list[ModelSpend], dict[str, Counters]]:
        spends: dict[tuple[str, str], ModelSpend] = {}
        reached = {}
        for name, counted in points.items():
            bot = bots.get(name)
            if bot is None or not counted:
                continue
            mark = marks.get(name)
            if mark is None and bot.created_at >= counted[0].at - DAY:
                mark = Counters(bot.created_at, 0, 0, 0)  # its counters began with it
            fresh = [point for point in counted if mark is None or point.at > mark.at]
            if not fresh:
                continue
            reached[name] = fresh[-1]
            model = str(bot.config["model"])
            for requests in between(mark, fresh):
                key = (name, month_of(requests.at))
                spends[key] = self._added(spends.get(key), bot, model, requests)
            if mark is None and not any(key[0] == name for key in spends):
                spends[name, month_of(fresh[-1].at)] = _nothing(bot, model, fresh[-1].at)
        return list(spends.values()), reached

    def _added(self, before: ModelSpend | None, bot: Bot, model: str, requests: Requests) -> ModelSpend:
        spend = before or _nothing(bot, model, requests.at)
        usd = priced(aliased(model, self.aliases), requests)
        return replace(
            spend,
            usd=spend.usd + (usd or 0.0),
            requests=spend.requests + requests.count,
            unpriced=spend.unpriced + (requests.count if usd is None else 0.0),
            input_tokens=spend.input_tokens + requests.input_tokens,
            output_tokens=spend.output_tokens + requests.output_tokens,
            until=requests.at,
        )

    # prices

    async def _refresh_prices(self) -> None:
        """Once a day, where it is allowed. What cannot be read leaves what is known as it is."""
        if self.pricing is None:
            return
        region, now = self.settings.aws_region, self.store.clock()
        async with self.store.read() as tx:
            before, fetched_at = await self.prices(tx), await Ledger(tx).fetched_at(region)
        if now - (fetched_at or 0) < DAY or now - self.refreshed_at < PATIENCE:
            return
        self.refreshed_at = now
        try:
            fetched = newer(await self.pricing.fetch(region, list(SHAPES)), before)
        except PricingError as error:
            self.metrics.price_refreshes.labels("failed").inc()
            log.warning("prices not refreshed; the last good ones hold", as_of=before.as_of, error=str(error))
            return
        async with self.store.write() as tx:
            await Ledger(tx).keep_prices(fetched)
            await tx.audit("prices.refreshed", region=region, as_of=fetched.as_of)
        self.metrics.price_refreshes.labels("refreshed").inc()


def _nothing(bot: Bot, model: str, at: float) -> ModelSpend:
    return ModelSpend(
        bot.name, model, month_of(at), bot.template, bot.environment, 0.0, 0.0, 0.0, 0.0, 0.0, at, at
    )
