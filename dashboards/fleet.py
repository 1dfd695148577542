"""The fleet: how all bots are, which are ill and why, and what is being done about it."""

from dashboards.adapter import dashboard
from dashboards.error_budget import OBJECTIVE, PERIOD
from dashboards.panels import (
    AVAILABILITY_STEPS,
    FLEET,
    bars,
    bot_link,
    counter,
    lines,
    none_is_good,
    table,
    wide_table,
)
from dashboards.queries import cost, fleet, recoveries
from dashboards.style import (
    BAND_COLOURS,
    BAND_SCORES,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    YELLOW,
    Json,
    Query,
    Row,
    Spec,
    fixed_colour,
    named,
    score_mappings,
    score_steps,
    steps,
)
from exporter.score import DEGRADED, MINOR, Thresholds

NOW = Row(
    "Now",
    [
        counter("Bots", "Bots the exporter probes.", fleet.BOTS, steps((BLUE, None))),
        counter(
            "Healthy",
            f"Bots with a health score of {MINOR:g} or more.",
            fleet.HEALTHY_BOTS,
            steps((GREY, None), (GREEN, 1)),
        ),
        counter(
            "Degraded",
            f"Bots with a health score from {DEGRADED:g} to {MINOR - 1:g}: they need attention.",
            fleet.DEGRADED_BOTS,
            none_is_good(ORANGE),
        ),
        counter(
            "Critical",
            f"Bots with a health score below {DEGRADED:g}. Below {Thresholds().critical:g}, "
            "after three failed probes, they are recovered.",
            fleet.CRITICAL_BOTS,
            none_is_good(RED),
        ),
        counter(
            "Stale",
            "Bots the exporter has not probed for three intervals: their score is old.",
            fleet.STALE_BOTS,
            none_is_good(YELLOW),
        ),
        counter(
            "Firing alerts",
            "Alerts firing for the chosen bots, and those about the fleet and its watchers.",
            fleet.FIRING,
            none_is_good(RED),
        ),
        counter(
            "Recovered today",
            "Bots brought back within the last 24 hours.",
            fleet.RECOVERED_TODAY,
            steps((GREEN, None)),
            no_value="no remediator",
            width=4,
        ),
        counter(
            "Availability",
            "Share of the time shown in which the last probe of /health was ok, over the chosen bots.",
            fleet.AVAILABILITY,
            AVAILABILITY_STEPS,
            unit="percentunit",
            no_value="no bot is probed",
            width=4,
        ),
        counter(
            "Cost a day",
            "Instances, volumes, addresses and models, at today's rate. Unknown prices are not in it.",
            cost.DAILY,
            steps((BLUE, None)),
            unit="currencyUSD",
            no_value="no price is known",
        ),
        Spec(
            kind="stat",
            title="Error budget left",
            description=f"Of {PERIOD}, by template: {OBJECTIVE:.1%} of all /health probes are to be answered "
            "well. Below zero more failed than that.",
            queries=[Query(fleet.BUDGET_LEFT, legend="{{template}}", instant=True)],
            unit="percentunit",
            width=12,
            height=4,
            no_value="no bot is probed",
            thresholds=steps((RED, None), (ORANGE, 0), (YELLOW, 0.25), (GREEN, 0.5)),
            options={"textMode": "value_and_name"},
        ),
    ],
)

URGENT = Row(
    "What is urgent",
    [
        wide_table(
            "Bots by urgency",
            "The worst first: points of the score that are lost, half of those that will be if the last "
            "hour goes on, and failures in a row.",
            [
                ("Urgency", fleet.URGENCY, None),
                ("Score", fleet.SCORES, None),
                ("Predicted in 1 h", fleet.PREDICTIONS, None),
                ("Streak", fleet.STREAKS, None),
                ("p95 of 1 h", fleet.P95, None),
                ("Reason", fleet.REASONS, "reason"),
                ("Running", recoveries.TIERS_RUNNING, "tier"),
                ("Version", fleet.VERSIONS, "version"),
                ("Cost an hour", cost.BOT_HOURLY, None),
            ],
            "no bot is probed",
            sort_by="Urgency",
            thresholds=score_steps(),
            overrides=[
                named("Urgency", ("decimals", 0), ("custom.width", 90)),
                *(
                    named(
                        name,
                        ("decimals", 0),
                        ("custom.cellOptions", {"type": "color-text"}),
                    )
                    for name in ("Score", "Predicted in 1 h")
                ),
                named("p95 of 1 h", ("unit", "s")),
                named("Cost an hour", ("unit", "currencyUSD"), ("decimals", 4)),
                named("template", ("displayName", "Template")),
            ],
        ),
        Spec(
            kind="bargauge",
            title="Worst ten",
            description="The ten bots with the lowest mean score over the time shown.",
            queries=[Query(fleet.WORST, legend="{{bot}}", instant=True)],
            unit="none",
            width=12,
            no_value="no bot is probed",
            thresholds=score_steps(),
            defaults={"min": 0, "max": 100, "decimals": 0, "links": [bot_link("${__field.labels.bot}")]},
        ),
        lines(
            "Error budget burn",
            "How many times as fast as allowed the budget burns, over all bots in the windows that page, by "
            "template in those that do not.",
            [
                *(
                    Query(fleet.burning(fleet.FAST.level, burn.long), legend=f"all bots, {burn.long}")
                    for burn in fleet.FAST.burns
                ),
                *(
                    Query(
                        fleet.burning(fleet.SLOW.level, burn.short),
                        legend=f"{{{{template}}}}, {burn.short}",
                    )
                    for burn in fleet.SLOW.burns
                ),
            ],
            "short",
            "no bot is probed",
            steps((GREEN, None), (YELLOW, 1), (ORANGE, 6), (RED, 14.4)),
        ),
    ],
)

HEALTH = Row(
    "Health",
    [
        Spec(
            kind="state-timeline",
            title="Health by bot",
            description="The band of each bot's health score: "
            f"{', '.join(f'{band} {scores}' for band, scores in BAND_SCORES.items())}. "
            "A gap is a time without probes. A click shows only that bot.",
            queries=[Query(fleet.SCORES, legend="{{bot}}")],
            unit="none",
            width=24,
            height=10,
            no_value="no bot is probed",
            thresholds=score_steps(),
            defaults={
                "mappings": score_mappings(),
                "links": [bot_link("${__field.labels.bot}")],
            },
        ),
        Spec(
            kind="timeseries",
            title="Health score",
            description="0 to 100 for each bot: /health 30, mesh 20, latency 20, no failure streak 30.",
            queries=[Query(fleet.SCORES, legend="{{bot}}")],
            unit="none",
            width=12,
            no_value="no bot is probed",
            thresholds=score_steps(),
            defaults={
                "min": 0,
                "max": 100,
                "color": {"mode": "palette-classic"},
                "links": [bot_link("${__field.labels.bot}")],
            },
            custom={"thresholdsStyle": {"mode": "dashed"}},
        ),
        Spec(
            kind="timeseries",
            title="Bots by band",
            description="How many bots are in each band of the score. Follows environment and template.",
            queries=[Query(fleet.BANDS, legend="{{band}}")],
            unit="short",
            width=12,
            no_value="no bot is probed",
            defaults={"min": 0, "decimals": 0},
            custom={"fillOpacity": 60, "lineWidth": 0, "stacking": {"group": "A", "mode": "normal"}},
            overrides=[fixed_colour(band, colour) for band, colour in BAND_COLOURS.items()],
        ),
    ],
)

PROBES = Row(
    "Probes",
    [
        Spec(
            kind="timeseries",
            title="Latency by bot",
            description="How long the last probe of /health took until its answer or its failure. Up to "
            "0.5 s costs no points, from 5 s on all twenty.",
            queries=[Query(fleet.LATENCIES, legend="{{bot}}")],
            unit="s",
            width=12,
            no_value="no bot is probed",
            thresholds=steps((GREEN, None), (YELLOW, 0.5), (RED, 5)),
            defaults={"min": 0, "color": {"mode": "palette-classic"}},
        ),
        Spec(
            kind="timeseries",
            title="Latency of the fleet",
            description="Quantiles of /health probes over all bots of the template, failed ones included.",
            queries=[Query(fleet.latency_quantile(q), legend=f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
            unit="s",
            width=12,
            no_value="no probes in this time",
            defaults={"min": 0},
        ),
        Spec(
            kind="heatmap",
            title="Distribution of latency",
            description="How many /health probes took how long. Two bands are two kinds of bots.",
            queries=[Query(fleet.LATENCY_BUCKETS, legend="{{le}}", format="heatmap")],
            unit="short",
            width=12,
            no_value="no probes in this time",
        ),
        bars(
            "Failures by reason",
            "Failed probes of /health and /mesh, by what went wrong. Follows template.",
            fleet.FAILURES,
            "{{reason}}",
            [],
            "no probe failed",
        ),
        table(
            "Failing now",
            "Endpoints whose last probe failed, why, and how many /health probes in a row have. "
            "The exporter's /probe?bot=NAME&debug=true tells more.",
            fleet.FAILING,
            "no bot is failing",
            {"bot": "Bot", "endpoint": "Endpoint", "reason": "Reason", "Value": "Streak"},
            24,
        ),
    ],
)

RECOVERY = Row(
    "Recovery",
    [
        Spec(
            kind="stat",
            title="Automatic recovery",
            description="Held back while more bots are ill than may be recovered at once.",
            queries=[Query(recoveries.HELD_BACK, legend="storm", instant=True)],
            unit="none",
            width=4,
            no_value="no remediator",
            thresholds=steps((GREEN, None), (RED, 1)),
            defaults={
                "mappings": [
                    {
                        "type": "value",
                        "options": {
                            "0": {"color": GREEN, "index": 0, "text": "on"},
                            "1": {"color": RED, "index": 1, "text": "held back"},
                        },
                    }
                ]
            },
        ),
        table(
            "Running now",
            "Recoveries and deployments under way, and the tier they are at; none before the first action.",
            recoveries.RUNNING,
            "nothing is running",
            {"bot": "Bot", "kind": "Kind", "tier": "Tier"},
            8,
        ),
        table(
            "Blocked",
            "Recoveries that wait at a gate, and which: GET /recover/{recoveryId} lists every verdict.",
            recoveries.WAITING,
            "nothing is held back",
            {"bot": "Bot", "reason": "Gate"},
            6,
        ),
        table(
            "Quarantined",
            "Bots no tier could recover. They are left alone until a person recovers or redeploys them.",
            recoveries.GIVEN_UP,
            "no bot waits for a person",
            {"bot": "Bot"},
            6,
        ),
        bars(
            "Recoveries by outcome",
            "Recoveries that ended. Unneeded: the bot was well when looked at. Escalated: no tier helped.",
            recoveries.RECOVERED,
            "{{outcome}}",
            [
                fixed_colour("recovered", GREEN),
                fixed_colour("escalated", RED),
                fixed_colour("unneeded", BLUE),
                fixed_colour("resolved", YELLOW),
                fixed_colour("cancelled", GREY),
            ],
            "no recovery ended",
        ),
        bars(
            "Attempts by tier and outcome",
            "Restarts, reboots and redeploys, by what verification saw. Failed: it could not be carried out.",
            recoveries.TIERS,
            "{{tier}} {{outcome}}",
            [],
            "no attempt was made",
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=FLEET,
        title="Bots: fleet",
        description="How all bots are, which are ill and why, and what is being done about it.",
        rows=[NOW, URGENT, HEALTH, PROBES, RECOVERY],
    )
