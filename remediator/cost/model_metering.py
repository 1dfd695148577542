"""Counts what bots' requests to their models cost, from the usage that Prometheus has of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from remediator.cost.estimate import ModelSpend, month_of
from remediator.cost.model_pricing import Counters, Requests, aliased, between, priced
from remediator.cost.repository import CostRepository
from remediator.cost.usage_queries import read_counters
from remediator.model import Bot
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.store.store import Store
from remediator.timestamps import DAY

log = structlog.get_logger()

LONGEST_READ: Final = 6 * 3600.0  # seconds of usage read at once; more is caught up in the next passes
COUNTED_UNTIL: Final = "usage_counted"  # the fact: up to when usage was counted (Unix seconds)


@dataclass(frozen=True, slots=True)
class ModelMeter:
    """What models cost. `aliases`: a model's name → the name that price lists have for it."""

    store: Store
    prometheus: Prometheus | None
    aliases: Mapping[str, str]

    async def count(self) -> None:
        """Add what bots reported since the last pass, priced by request as far as probes tell them apart."""
        if self.prometheus is None:
            return
        async with self.store.read() as tx:
            bots = {bot.name: bot for bot in await tx.bots()}
            marks = await CostRepository(tx).marks()
            now = tx.now
            start = await tx.fact(COUNTED_UNTIL)
        end = now if start is None else min(now, start + LONGEST_READ)
        try:
            points = await read_counters(self.prometheus, end if start is None else start, end)
        except PrometheusError as error:
            log.warning("usage not counted", error=str(error))
            return
        spends, reached = await asyncio.to_thread(self.price, bots, marks, points)
        async with self.store.write() as tx:
            if await tx.fact(COUNTED_UNTIL) == start:  # no other replica has counted the same meanwhile
                await CostRepository(tx).add_spend(spends)
                await CostRepository(tx).keep_marks(reached, marks)
                await tx.set_fact(COUNTED_UNTIL, end)

    def price(
        self,
        bots: Mapping[str, Bot],
        marks: Mapping[str, Counters],
        points: Mapping[str, Sequence[Counters]],
    ) -> tuple[list[ModelSpend], dict[str, Counters]]:
        """Return what each bot spent since its mark, by month, and the new marks of those counted. Pure."""
        spends: dict[tuple[str, str], ModelSpend] = {}
        reached = {}
        for name, counters in points.items():
            bot = bots.get(name)
            if bot is None or not counters:
                continue
            mark = marks.get(name)
            if mark is None and bot.created_at >= counters[0].at - DAY:
                mark = Counters(bot.created_at, 0, 0, 0)  # its counters began with it
            fresh = [point for point in counters if mark is None or point.at > mark.at]
            if not fresh:
                continue
            reached[name] = fresh[-1]
            model = str(bot.config["model"])
            for requests in between(mark, fresh):
                key = (name, month_of(requests.at))
                spends[key] = self._added(spends.get(key), bot, model, requests)
            if mark is None and not any(key[0] == name for key in spends):
                spends[name, month_of(fresh[-1].at)] = _no_spend(bot, model, fresh[-1].at)
        return list(spends.values()), reached

    def _added(self, before: ModelSpend | None, bot: Bot, model: str, requests: Requests) -> ModelSpend:
        spend = before or _no_spend(bot, model, requests.at)
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


def _no_spend(bot: Bot, model: str, at: float) -> ModelSpend:
    return ModelSpend(
        bot.name, model, month_of(at), bot.template, bot.environment, 0.0, 0.0, 0.0, 0.0, 0.0, at, at
    )
