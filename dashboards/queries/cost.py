"""PromQL of the cost dashboard. A cost that is not known has no series: no sum pretends to be whole."""

from typing import Final

from dashboards.queries.selection import CHOSEN, INTERVAL, RANGE, of_chosen, or_zero
from remediator.metrics import (
    BUDGET,
    BUDGET_PROJECTED,
    BUDGET_SPENT,
    COST,
    COST_UNKNOWN,
    MODEL_COST,
    PRICES_DATE,
    SAVING,
)

MONTH: Final = 730  # hours, as AWS counts a month

_COMPONENTS: Final = f"max by (bot, component) ({COST.name})"
_MODELS: Final = f"max by (bot, model) (rate({MODEL_COST.name}[{INTERVAL}]))"
_SPENT: Final = f"max by (bot, model) (increase({MODEL_COST.name}[{RANGE}]))"
_DAY: Final = f"max by (bot, model) (increase({MODEL_COST.name}[1d]))"


def _by_template(per_bot: str) -> str:
    return f"sum by (template) (({per_bot}) * on (bot) group_left (template) {CHOSEN})"


HOURLY: Final = f"sum({of_chosen(_COMPONENTS)})"
MODELS_DAILY: Final = f"sum({of_chosen(_DAY)})"
MONTHLY: Final = f"{HOURLY} * {MONTH} + ({MODELS_DAILY} * {MONTH / 24:.4g} or vector(0))"
DAILY: Final = f"{HOURLY} * 24 + ({MODELS_DAILY} or vector(0))"
BOT_HOURLY: Final = of_chosen(f"sum by (bot) ({_COMPONENTS})")
MODELS_SPENT: Final = f"sum({of_chosen(_SPENT)})"
UNKNOWN: Final = or_zero(f"count({of_chosen(f'max by (bot, component) ({COST_UNKNOWN.name}) == 1')})")
PRICES_AGE: Final = f"time() - max by (source) ({PRICES_DATE.name})"

BY_BOT: Final = f"topk(20, sum by (bot) ({of_chosen(_COMPONENTS)}))"
BY_TEMPLATE: Final = _by_template(f"sum by (bot) ({_COMPONENTS})")
BY_COMPONENT: Final = f"sum by (component) ({of_chosen(_COMPONENTS)})"
BY_MODEL: Final = f"sum by (model) ({of_chosen(_MODELS)}) * 3600"
MODEL_OF_TEMPLATE: Final = f"{_by_template(f'sum by (bot) ({_SPENT})')}"

LIMITS: Final = f"max by (scope, name) ({BUDGET.name})"
SPENT: Final = f"max by (scope, name) ({BUDGET_SPENT.name})"
PROJECTED: Final = f"max by (scope, name) ({BUDGET_PROJECTED.name})"
SHARE: Final = f"{PROJECTED} / ({LIMITS} > 0)"

_SAVINGS: Final = f"max by (bot, kind) ({SAVING.name})"
SAVABLE: Final = or_zero(f"sum({of_chosen(f'{_SAVINGS} > 0')})")
ADVICE: Final = of_chosen(_SAVINGS)
SAVABLE_BY_KIND: Final = f"sum by (kind) ({of_chosen(_SAVINGS)})"
