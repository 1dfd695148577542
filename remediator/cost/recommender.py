"""Makes recommendations from two weeks of measurements, and remembers which of them stand."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from remediator.cost.estimate import ModelSpend, month_of
from remediator.cost.model_advice import Quality, cheaper_model
from remediator.cost.model_pricing import aliased
from remediator.cost.price_table import PriceTable
from remediator.cost.repository import CostRepository, StoredAdvice
from remediator.cost.rightsizing import Advice, advise
from remediator.cost.usage_queries import Measurements, read_measurements
from remediator.cost.utilization import Usage
from remediator.model import Bot
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.store.store import Store
from remediator.timestamps import DAY
from templates import Templates

log = structlog.get_logger()

ADVISED_AT: Final = "advised_at"  # the fact: when recommendations were last made (Unix seconds)
NO_MEASUREMENTS: Final = Measurements({}, {})


@dataclass
class Recommender:
    """Advice on instances and models. `aliases`: a model's name → the name that price lists have for it."""

    store: Store
    prometheus: Prometheus | None
    templates: Templates
    aliases: Mapping[str, str]
    region: str
    interval: float  # seconds between two rounds of advice
    quality: Mapping[str, Quality] = field(default_factory=dict)  # as last measured, by bot

    async def run_if_due(self) -> None:
        """Make recommendations if `interval` seconds are over since the last."""
        async with self.store.read() as tx:
            advised_at = await tx.fact(ADVISED_AT) or 0
            now = tx.now
        if now - advised_at >= self.interval:
            await self.run(now)

    async def run(self, now: float) -> None:
        """Make recommendations for every bot. An unreachable Prometheus leaves those that stand."""
        measurements = NO_MEASUREMENTS
        if self.prometheus is not None:
            try:
                measurements = await read_measurements(self.prometheus, now)
            except PrometheusError as error:
                log.warning("no new recommendations", error=str(error))
                return
        self.quality = measurements.quality
        async with self.store.read() as tx:
            bots = [bot for bot in await tx.bots() if bot.state == "active"]
            prices = await CostRepository(tx).current_prices(self.region)
            spends = await CostRepository(tx).model_spend(month_of(now - 31 * DAY))
            standing = {(advice.bot, advice.kind): advice for advice in await CostRepository(tx).advice()}
        targets = {key: advice.target for key, advice in standing.items()}
        advices = await asyncio.to_thread(self.advise, bots, measurements, prices, spends, targets, now)
        async with self.store.write() as tx:
            rows = [_row(advice, standing.get((advice.bot, advice.kind)), tx.now) for advice in advices]
            await CostRepository(tx).replace_advice(rows)
            await tx.set_fact(ADVISED_AT, tx.now)
            for row, advice in zip(rows, advices, strict=True):
                if row.target and row.since == tx.now:
                    await tx.audit("advice.given", bot=row.bot, kind=row.kind, command=advice.command)

    def advise(
        self,
        bots: Iterable[Bot],
        measurements: Measurements,
        prices: PriceTable,
        spends: Sequence[ModelSpend],
        targets: Mapping[tuple[str, str], str],
        now: float,
    ) -> list[Advice]:
        """Return advice on each bot's instance, and on its model where it reports usage. Pure.

        `targets`: of the advice that stands, by bot and kind.
        """
        spends_by_bot: dict[str, list[ModelSpend]] = {}
        for spend in spends:
            spends_by_bot.setdefault(spend.bot, []).append(spend)
        advices = []
        for bot in bots:
            usage = measurements.usage.get(bot.name, Usage())
            standing = targets.get((bot.name, "instance"), "")
            advices.append(advise(bot.name, str(bot.config["instance_type"]), usage, prices, standing))
            quality = measurements.quality.get(bot.name, Quality())
            total = _total(bot, spends_by_bot.get(bot.name, ()))
            if total is not None:
                standing = targets.get((bot.name, "model"), "")
                advices.append(self._advise_model(bot, total, quality, standing, now))
        return advices

    def _advise_model(
        self, bot: Bot, spend: ModelSpend, quality: Quality, standing: str, now: float
    ) -> Advice:
        try:
            allowed = self.templates.get(bot.template, bot.environment).models
        except KeyError:  # of a bot that was deployed when there was such a template
            allowed = []
        days = max((spend.until - spend.since) / DAY, 1 / 24)
        day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        return cheaper_model(
            spend, allowed, quality, days, day, standing, lambda model: aliased(model, self.aliases)
        )


def _total(bot: Bot, spends: Iterable[ModelSpend]) -> ModelSpend | None:
    """Return what the bot has spent on the model that it uses now; None where it reports nothing."""
    spends = [spend for spend in spends if spend.model == bot.config["model"]]
    if not spends:
        return None
    sums: dict[str, Any] = {
        name: sum(getattr(spend, name) for spend in spends)
        for name in ("usd", "requests", "unpriced", "input_tokens", "output_tokens")
    }
    since, until = min(spend.since for spend in spends), max(spend.until for spend in spends)
    return ModelSpend(
        bot.name, spends[0].model, "", bot.template, bot.environment, since=since, until=until, **sums
    )


def _row(advice: Advice, before: StoredAdvice | None, now: float) -> StoredAdvice:
    """Return the row to store; advice with the same target as before keeps the time since when it stands."""
    since = before.since if before is not None and before.target == advice.target else now
    return StoredAdvice(
        advice.bot, advice.kind, advice.target, since, now, {**asdict(advice), "command": advice.command}
    )
