"""Keeps the prices of AWS fresh, where the settings allow to ask for them."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import structlog

from remediator.cost.price_table import newer
from remediator.cost.pricing_api import Pricing, PricingError
from remediator.cost.repository import CostRepository
from remediator.metrics import Metrics
from remediator.store.store import Store
from remediator.timestamps import DAY
from templates.instance_types import family_of

log = structlog.get_logger()

RETRY_AFTER: Final = 3600.0  # seconds before a refresh that failed is tried again


@dataclass
class PriceRefresher:
    """The daily refresh of one region's prices. Without a `pricing` there is none.

    `instance_types`: that a bot may have, beside those that bots have. Their families are asked for: one
    request a type, and right-sizing compares within a family.
    """

    store: Store
    pricing: Pricing | None
    region: str
    metrics: Metrics
    instance_types: Collection[str] = ()
    tried_at: float = float("-inf")  # Unix seconds

    async def refresh(self) -> None:
        """Fetch the prices if the last ones are a day old. What cannot be read leaves those as they are."""
        if self.pricing is None:
            return
        now = self.store.clock()
        async with self.store.read() as tx:
            before = await CostRepository(tx).current_prices(self.region)
            fetched_at = await CostRepository(tx).fetched_at(self.region)
            types = {*self.instance_types, *(str(bot.config["instance_type"]) for bot in await tx.bots())}
        if now - (fetched_at or 0) < DAY or now - self.tried_at < RETRY_AFTER:
            return
        self.tried_at = now
        wanted = sorted({member.name for name in types for member in family_of(name)})
        try:
            fetched = newer(await self.pricing.fetch(self.region, wanted), before)
        except PricingError as error:
            self.metrics.price_refreshes.labels("failed").inc()
            log.warning("prices not refreshed; the last good ones hold", as_of=before.as_of, error=str(error))
            return
        async with self.store.write() as tx:
            await CostRepository(tx).keep_prices(fetched)
            await tx.audit("prices.refreshed", region=self.region, as_of=fetched.as_of)
        self.metrics.price_refreshes.labels("refreshed").inc()
