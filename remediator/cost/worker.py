"""The background task of all that is about costs: meter, count, refresh, recommend, then publish."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from remediator.cost import exposition
from remediator.cost.metering import CostMeter
from remediator.cost.model_metering import ModelMeter
from remediator.cost.price_refresh import PriceRefresher
from remediator.cost.recommender import Recommender
from remediator.cost.snapshot import take_snapshot
from remediator.metrics import COST_SERIES, Samples, Series
from remediator.periodic import run_every
from remediator.store.store import Store
from remediator.store.transaction import Transaction


@dataclass
class CostWorker:
    """One replica records costs; each publishes them. `interval`: seconds between two passes."""

    store: Store
    meter: CostMeter
    model_meter: ModelMeter
    prices: PriceRefresher
    recommender: Recommender
    interval: float
    _samples: Mapping[Series, Samples] = field(default_factory=lambda: dict.fromkeys(COST_SERIES, ()))

    async def serve(self) -> None:
        """Run a pass every `interval` seconds, until cancelled."""
        await run_every(self.run_once, self.interval, "the books were not kept")

    async def run_once(self) -> None:
        """Make one pass. What cannot be asked now is left for the next."""
        async with self.store.write() as tx:
            leads = await tx.try_lead("cost", 2 * self.interval)
        if leads:
            await self.meter.refresh_instances()
            await self.meter.record_rates()
            await self.model_meter.count()
            await self.prices.refresh()
            await self.recommender.run_if_due()
        await self.publish()

    async def publish(self) -> None:
        """Make the samples of the next scrapes from what the store has now."""
        if self.meter.instances is None:
            await self.meter.refresh_instances()  # of a replica that does not record
        async with self.store.read() as tx:
            snapshot = await take_snapshot(tx, self.meter)
        self._samples = await asyncio.to_thread(exposition.samples, snapshot)

    async def samples(self, _: Transaction) -> Mapping[Series, Samples]:
        """Return the cost series as of the last pass: too much to compute at every scrape."""
        return self._samples
