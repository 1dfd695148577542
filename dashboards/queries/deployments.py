"""PromQL of the dashboard of deployments and configurations."""

from typing import Final

from dashboards.queries.selection import INTERVAL, OF_BOT, RANGE, of_chosen, or_zero
from exporter.metrics import BOT_CONFIG_INFO, BOT_INFO
from remediator.metrics import (
    ACTIVE,
    CONFIG_VERSION,
    DEPLOYMENT_DURATION,
    DEPLOYMENT_PROGRESS,
    DRIFT,
    DRIFT_LOOKED,
    LAUNCH_ERRORS,
    LAUNCHED,
    ORPHANS,
    ROLLBACKS,
    ROLLOUT_ACTIVE,
    RUNS,
)

_CHANGES: Final = 'kind!="recover"'

RUNNING: Final = or_zero(f"count(max by (bot, kind) ({ACTIVE.name}{{{_CHANGES},{OF_BOT}}}) == 1)")
FAILED: Final = f'sum(round(increase({RUNS.name}{{{_CHANGES},outcome="failed"}}[{RANGE}])))'
ROLLED_BACK: Final = f"sum(round(increase({ROLLBACKS.name}[{RANGE}])))"
ROLLING: Final = or_zero(f"count(max by (rollout) ({ROLLOUT_ACTIVE.name}) == 1)")
_DIFFERS: Final = f"max by (bot, field) ({DRIFT.name}) == 1"
DRIFTED: Final = or_zero(f"count(group by (bot) ({of_chosen(_DIFFERS)}))")
DRIFTED_FIELDS: Final = of_chosen(_DIFFERS)
DRIFT_AGE: Final = f"time() - max({DRIFT_LOOKED.name})"
LOST: Final = f"max({ORPHANS.name})"

PROGRESS: Final = f"max by (bot, kind) ({DEPLOYMENT_PROGRESS.name}{{{OF_BOT}}})"
OUTCOMES: Final = f"sum by (kind, outcome) (increase({RUNS.name}{{{_CHANGES}}}[{INTERVAL}])) > 0"
ERRORS: Final = f"sum by (kind) (increase({LAUNCH_ERRORS.name}[{INTERVAL}])) > 0"

# What an annotation marks on every panel.
DEPLOYING: Final = f'max by (bot) ({ACTIVE.name}{{kind="deploy",{OF_BOT}}})'

# A column a query, a row a bot.
VERSION: Final = of_chosen(f"max by (bot) ({CONFIG_VERSION.name})")
AGE: Final = of_chosen(f"time() - max by (bot) ({LAUNCHED.name})")
SOFTWARE: Final = of_chosen(f"topk by (bot) (1, group by (bot, template, environment, version) ({BOT_INFO}))")
REPORTED: Final = of_chosen(f"topk by (bot) (1, group by (bot, config_sha) ({BOT_CONFIG_INFO}))")
AGES: Final = f"topk(20, {AGE})"
SOFTWARE_COUNT: Final = f"count by (version) ({SOFTWARE})"


def duration(quantile: float) -> str:
    """Return the quantile of how long deployments took, by kind, in seconds."""
    buckets = f"sum by (le, kind) (increase({DEPLOYMENT_DURATION.name}_bucket[{RANGE}]))"
    return f"histogram_quantile({quantile}, {buckets})"
