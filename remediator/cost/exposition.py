"""The cost series of a snapshot. Pure."""

from remediator import metrics
from remediator.cost.budgets import Outlook
from remediator.cost.snapshot import CostSnapshot
from remediator.cost.utilization import GIB


def samples(snapshot: CostSnapshot) -> dict[metrics.Series, metrics.Samples]:
    """Return the samples of a scrape. What is unknown has no sample in a sum, and one that says so."""
    dated = snapshot.prices.dated
    outlooks = snapshot.outlooks
    sizes = [
        ((bot.name, bot.instance_id), size)
        for bot in snapshot.bots
        if (size := snapshot.sizes.get(bot.name)) is not None
    ]
    unknown = {(part["bot"], part["component"]) for part in snapshot.unknown()}
    return {
        metrics.COST: [
            ((bot, component), usd)
            for bot, estimate in snapshot.estimates.items()
            for component, usd in estimate.usd_per_hour.items()
            if usd is not None
        ],
        metrics.COST_UNKNOWN: [(labels, 1.0) for labels in unknown],
        metrics.MODEL_COST: [((bot, model), usd) for bot, model, usd in snapshot.totals],
        metrics.PRICES_DATE: [] if dated is None else [((snapshot.prices.source,), dated)],
        metrics.BUDGET: [(_labels(outlook), outlook.budget.usd) for outlook in outlooks],
        metrics.BUDGET_SPENT: [(_labels(outlook), outlook.spent) for outlook in outlooks],
        metrics.BUDGET_PROJECTED: [(_labels(outlook), outlook.projected) for outlook in outlooks],
        metrics.SAVING: [
            ((advice.bot, advice.kind), float(advice.body["monthly_saving"]))
            for advice in snapshot.advice
            if advice.target and advice.body["monthly_saving"] is not None
        ],
        metrics.INSTANCE_VCPUS: [(labels, size.vcpus) for labels, size in sizes],
        metrics.INSTANCE_MEMORY: [(labels, size.usable_gib * GIB) for labels, size in sizes],
    }


def _labels(outlook: Outlook) -> tuple[str, str]:
    return outlook.budget.scope, outlook.budget.name
