"""PromQL about recoveries: runs, tiers, gates, and the alerts that begin them."""

from typing import Final

from dashboards.queries.selection import INTERVAL, OF_BOT, RANGE
from remediator.metrics import (
    ACTIVE,
    ALERTS,
    ALERTS_IGNORED,
    ATTEMPTS,
    BLOCKED,
    BLOCKED_TOTAL,
    FLEET_LIMIT,
    FLEET_RATIO,
    NOTIFICATIONS,
    QUARANTINED,
    RUNS,
    STORM,
    TIME_TO_RECOVER,
)

RECOVERED: Final = f'sum by (outcome) (increase({RUNS.name}{{kind="recover"}}[{INTERVAL}])) > 0'
TIERS: Final = f"sum by (tier, outcome) (increase({ATTEMPTS.name}[{INTERVAL}])) > 0"
HELD_BACK: Final = f"max({STORM.name})"
# Not joined: a bot that is being deployed is not known to the exporter yet.
RUNNING: Final = f"max by (bot, kind, tier) ({ACTIVE.name}{{{OF_BOT}}}) == 1"
WAITING: Final = f"max by (bot, reason) ({BLOCKED.name}{{{OF_BOT}}}) == 1"
GIVEN_UP: Final = f"max by (bot) ({QUARANTINED.name}{{{OF_BOT}}}) == 1"
# What an annotation marks on every panel.
RECOVERING: Final = f'max by (bot, tier) ({ACTIVE.name}{{kind="recover",tier!="",{OF_BOT}}})'


def runs(kind: str, outcome: str) -> str:
    """Return how many runs ended so in the time shown. `round`: `increase` extrapolates."""
    return f'sum(round(increase({RUNS.name}{{kind="{kind}",outcome="{outcome}"}}[{RANGE}])))'


def time_to_recover(quantile: float) -> str:
    """Return the quantile of the seconds from the fault to health."""
    buckets = f"sum by (le) (increase({TIME_TO_RECOVER.name}_bucket[{RANGE}]))"
    return f"histogram_quantile({quantile}, {buckets})"


TIER_SUCCESS: Final = (
    f'sum by (tier) (increase({ATTEMPTS.name}{{outcome="cured"}}[{RANGE}]))'
    f" / (sum by (tier) (increase({ATTEMPTS.name}[{RANGE}])) > 0)"
)
RECOVERY_SECONDS: Final = f"sum by (le) (increase({TIME_TO_RECOVER.name}_bucket[{INTERVAL}]))"
DEPLOYED: Final = f'sum by (outcome) (increase({RUNS.name}{{kind="deploy"}}[{INTERVAL}])) > 0'
RUNNING_BY_TIER: Final = f"sum by (kind, tier) ({ACTIVE.name})"
GATES: Final = f"sum by (reason) (increase({BLOCKED_TOTAL.name}[{INTERVAL}])) > 0"
ILL: Final = f"max({FLEET_RATIO.name})"
ILL_LIMIT: Final = f"max({FLEET_LIMIT.name})"
INTAKE: Final = f"sum by (status) (increase({ALERTS.name}[{INTERVAL}]))"
IGNORED: Final = f"sum by (reason) (increase({ALERTS_IGNORED.name}[{INTERVAL}])) > 0"
MESSAGES: Final = f"sum by (channel, outcome) (increase({NOTIFICATIONS.name}[{INTERVAL}])) > 0"
TIERS_RUNNING: Final = f'group by (bot, tier) ({ACTIVE.name}{{kind="recover",{OF_BOT}}})'
