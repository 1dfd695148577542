"""The error budget: one table, which makes the rules (`alerts/rules-budget.yml`) and what dashboards show.

Multi-window, multi-rate, as chapter 5 of Google's SRE workbook: an alert needs a long window, so that it is
worth a person's time, and a short one, so that it is over soon after the cause is. What pages is counted over
all bots together: a single bot is the remediator's, and says so itself if that fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final

from exporter.durations import parse_duration
from exporter.metrics import BOT_FLEET_PROBE_FAILURES_TOTAL, BOT_FLEET_PROBES_TOTAL

OBJECTIVE: Final = 0.995  # of all /health probes are answered well
BUDGET: Final = round(1 - OBJECTIVE, 6)
PERIOD: Final = "30d"


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows, and how many times as fast as allowed the budget may burn in both."""

    long: str
    short: str
    factor: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert over several pairs. `level` is what the ratio is counted by: `fleet`, or a label."""

    name: str
    severity: str
    level: str
    wait: str
    burns: Sequence[Burn]
    summary: str
    description: str
    dashboard: str


ALERTS: Final = (
    Alert(
        name="BotErrorBudgetBurnFast",
        severity="critical",
        level="fleet",
        wait="2m",
        burns=(Burn("1h", "5m", 14.4), Burn("6h", "30m", 6)),
        summary="{{ $value | humanizePercentage }} of all /health probes fail: a month's budget is going",
        description=(
            "So many probes of all bots have failed, and still do, that the error budget of a month "
            "lasts two days to five."
        ),
        dashboard="bot-fleet",
    ),
    Alert(
        name="BotErrorBudgetBurnSlow",
        severity="warning",
        level="template",
        wait="15m",
        burns=(Burn("1d", "2h", 3), Burn("3d", "6h", 1)),
        summary="{{ $labels.template }}: {{ $value | humanizePercentage }} of /health probes fail, for days",
        description=(
            "Bots of the template {{ $labels.template }} have failed more probes over days than their error "
            "budget allows for."
        ),
        dashboard="bot-fleet",
    ),
)


def _by(level: str) -> str:
    return "sum" if level == "fleet" else f"sum by ({level}) "


def recorded(level: str, window: str) -> str:
    """Return the name of the series with the share of failed /health probes."""
    return f"{level}:bot_fleet_health_failures:ratio_rate{window}"


def _record(level: str, window: str) -> list[str]:
    def total(family: object) -> str:
        return f'{_by(level)}(rate({family}{{endpoint="health"}}[{window}]))'

    return [
        f"      - record: {recorded(level, window)}",
        "        expr: |",
        f"          {total(BOT_FLEET_PROBE_FAILURES_TOTAL)}",
        "            /",
        f"          ({total(BOT_FLEET_PROBES_TOTAL)} > 0)",
    ]


def _condition(level: str, burn: Burn) -> str:
    limit = f"{round(burn.factor * BUDGET, 6):g}"
    return f"          ({recorded(level, burn.long)} > {limit} and {recorded(level, burn.short)} > {limit})"


def _alert(alert: Alert) -> list[str]:
    expr = "\n            or\n".join(_condition(alert.level, burn) for burn in alert.burns)
    factors = " and ".join(f"{burn.factor:g}" for burn in alert.burns)
    anchor = f"https://bot-orchestrator.example.org/alerts/README.md#{alert.name.lower()}"
    return [
        f"      - alert: {alert.name}",
        f"        # {factors} times the budget of {BUDGET:g}.",
        "        expr: |",
        expr,
        f"        for: {alert.wait}",
        "        labels:",
        f"          severity: {alert.severity}",
        "        annotations:",
        f'          summary: "{alert.summary}"',
        "          description: >-",
        *wrap(alert.description, 100, initial_indent=" " * 12, subsequent_indent=" " * 12),
        f'          runbook_url: "{anchor}"',
        f'          dashboard_url: "http://127.0.0.1:3000/d/{alert.dashboard}"',
    ]


def rules() -> str:
    """Return the text of `alerts/rules-budget.yml`."""
    lines = [
        "# Written by `python -m dashboards` from the table in dashboards/error_budget.py: change that.",
        f"# {OBJECTIVE:.1%} of all /health probes are to be answered well, over {PERIOD}.",
        "groups:",
        "  - name: budget",
        "    interval: 60s",
        "    rules:",
    ]
    for alert in ALERTS:
        windows = {window for burn in alert.burns for window in (burn.long, burn.short)}
        for window in sorted(windows, key=parse_duration):
            lines += [*_record(alert.level, window), ""]
    for alert in ALERTS:
        lines += [*_alert(alert), ""]
    return "\n".join(lines[:-1]) + "\n"
