"""What is known of costs at one moment, read from the store; views and series are made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from remediator.cost.budgets import Budget, Outlook, outlook
from remediator.cost.estimate import Estimate, ModelSpend, Rate, month_bounds, month_of
from remediator.cost.metering import CostMeter
from remediator.cost.model_pricing import SOURCE
from remediator.cost.price_table import PriceTable
from remediator.cost.repository import CostRepository, StoredAdvice
from remediator.model import Bot
from remediator.store.transaction import Transaction
from templates.instance_types import InstanceType

FLEET = Budget("fleet", "all", 0)


@dataclass(frozen=True, slots=True)
class CostSnapshot:
    """Everything that `GET /cost` and the cost series are made of, at `now` (Unix seconds)."""

    now: float
    prices: PriceTable
    bots: Sequence[Bot]
    estimates: Mapping[str, Estimate]  # by bot
    rates: Sequence[Rate]  # of this month and the one before
    spends: Sequence[ModelSpend]  # the same
    budgets: Sequence[Budget]
    advice: Sequence[StoredAdvice]
    totals: Sequence[tuple[str, str, float]]  # bot, model, dollars
    sizes: Mapping[str, InstanceType | None] = field(default_factory=dict)  # of instances, by bot

    def outlook(self, budget: Budget) -> Outlook:
        """Return how the budget stands."""
        return outlook(budget, self.rates, self.spends, self.now)

    @property
    def outlooks(self) -> list[Outlook]:
        """Return the outlook of each budget."""
        return [self.outlook(budget) for budget in self.budgets]

    @property
    def month_spends(self) -> list[ModelSpend]:
        """Return what models have cost this month."""
        return [spend for spend in self.spends if spend.month == month_of(self.now)]

    def unknown(self) -> list[dict[str, str]]:
        """Return each part of a bot of which the price is unknown, with the reason as `why`."""
        parts = [
            {"bot": bot, "component": component, "why": reason}
            for bot, estimate in self.estimates.items()
            for component, reason in estimate.unknown.items()
        ]
        return parts + [
            {"bot": spend.bot, "component": "model", "why": f"no price of {spend.model} in {SOURCE}"}
            for spend in self.month_spends
            if spend.unpriced
        ]


async def take_snapshot(tx: Transaction, meter: CostMeter) -> CostSnapshot:
    """Read everything about costs, in seven statements."""
    repository = CostRepository(tx)
    since = _last_month(tx.now)
    prices, bots = await repository.current_prices(meter.region), await tx.bots()
    return CostSnapshot(
        now=tx.now,
        prices=prices,
        bots=bots,
        estimates={bot.name: meter.estimate(bot, prices) for bot in bots if bot.instance_id},
        rates=await repository.rates(since),
        spends=await repository.model_spend(month_of(since)),
        budgets=await repository.budgets(),
        advice=await repository.advice(),
        totals=await repository.model_totals(),
        sizes={bot.name: meter.size(bot) for bot in bots},
    )


async def read_outlooks(tx: Transaction, budgets: Sequence[Budget]) -> list[Outlook]:
    """Return how these budgets stand, from what was spent alone, in two statements."""
    since = _last_month(tx.now)
    rates = await CostRepository(tx).rates(since)
    spends = await CostRepository(tx).model_spend(month_of(since))
    return [outlook(budget, rates, spends, tx.now) for budget in budgets]


def _last_month(now: float) -> float:
    """Return the first moment of the month before this one (Unix seconds)."""
    return month_bounds(month_bounds(now)[0] - 1)[0]
