"""One bot: its score and what makes it, its latency, its failures, and what was done to it."""

from typing import Final

from dashboards.adapter import dashboard, link
from dashboards.error_budget import OBJECTIVE, PERIOD
from dashboards.panels import (
    AVAILABILITY_STEPS,
    BOT,
    YES_NO,
    bars,
    counter,
    lines,
    none_is_good,
    states,
    table,
    words,
)
from dashboards.queries import bot as queries
from dashboards.queries.selection import RANGE
from dashboards.style import (
    BAND_SCORES,
    BLUE,
    GREEN,
    ORANGE,
    RED,
    YELLOW,
    Json,
    Query,
    Row,
    Spec,
    named,
    score_mappings,
    score_steps,
    steps,
)

EXPORTER: Final = "http://127.0.0.1:9817"
REMEDIATOR: Final = "http://127.0.0.1:19000"
ALERTMANAGER: Final = "http://127.0.0.1:9093"
RUNBOOK: Final = "https://bot-orchestrator.example.org/alerts/README.md"

NOW = Row(
    "Now",
    [
        counter(
            "Score",
            f"{', '.join(f'{scores} {band}' for band, scores in BAND_SCORES.items())}.",
            queries.SCORE,
            score_steps(),
            unit="none",
            no_value="not probed",
        ),
        counter(
            "Failure streak",
            "Failed /health probes in a row. From three on the bot is recovered if it scores below 20, "
            "from five on whatever its score.",
            queries.STREAK,
            steps((GREEN, None), (YELLOW, 1), (RED, 3)),
            no_value="not probed",
        ),
        counter(
            "Last answer",
            "How long ago /health was last ok.",
            queries.SILENCE,
            steps((BLUE, None)),
            unit="s",
            no_value="never",
        ),
        counter(
            "Availability",
            "Share of the time shown in which the last probe of /health was ok.",
            queries.AVAILABILITY,
            AVAILABILITY_STEPS,
            unit="percentunit",
            no_value="not probed",
        ),
        counter(
            "Latency p95",
            "Of /health, over the time shown. Up to 0.5 s costs no points, from 5 s on all twenty.",
            queries.latency_quantile(0.95, RANGE),
            steps((GREEN, None), (YELLOW, 0.5), (RED, 5)),
            unit="s",
            no_value="not probed",
        ),
        counter(
            "Firing alerts",
            "Alerts of this bot that fire now.",
            queries.FIRING,
            none_is_good(RED),
        ),
        table(
            "What it is",
            "Its template, environment, instance and the version it tells.",
            queries.INFO,
            "not known to the exporter",
            {
                "bot": "Name",
                "template": "Template",
                "environment": "Environment",
                "instance_id": "Instance",
                "version": "Version",
            },
            20,
            4,
        ),
        counter(
            "Error budget left",
            f"Of {PERIOD}: {OBJECTIVE:.1%} of its time the bot is to be up. Below zero it was down longer.",
            queries.BUDGET_LEFT,
            steps((RED, None), (ORANGE, 0), (YELLOW, 0.25), (GREEN, 0.5)),
            unit="percentunit",
            no_value="not probed",
        ),
    ],
)

SCORE = Row(
    "Score",
    [
        Spec(
            kind="timeseries",
            title="Score",
            description="The health score, over the colours of its bands, and what it will be an hour after "
            "each point if the hour before goes on.",
            queries=[
                Query(queries.SCORE, legend="score"),
                Query(queries.SCORE_PREDICTED, legend="predicted for an hour later"),
            ],
            overrides=[
                named(
                    "predicted for an hour later",
                    ("custom.lineStyle", {"dash": [6, 6], "fill": "dash"}),
                    ("custom.fillOpacity", 0),
                )
            ],
            unit="none",
            width=12,
            no_value="not probed",
            thresholds=score_steps(),
            defaults={"min": 0, "max": 100, "mappings": score_mappings()},
            custom={"thresholdsStyle": {"mode": "dashed"}, "gradientMode": "scheme", "lineWidth": 2},
        ),
        Spec(
            kind="timeseries",
            title="What makes the score",
            description="Points by component: /health 30, mesh 20, latency 20, no failure streak 30.",
            queries=[Query(queries.COMPONENTS, legend="{{component}}")],
            unit="none",
            width=12,
            no_value="not probed",
            defaults={"min": 0, "max": 100},
            custom={"fillOpacity": 60, "lineWidth": 0, "stacking": {"group": "A", "mode": "normal"}},
        ),
    ],
)

LATENCY_STEPS = steps((GREEN, None), (YELLOW, 0.5), (RED, 5))
LATENCY = Row(
    "Latency",
    [
        lines(
            "Latency of the last probe",
            "How long /health and /mesh took until their answer or their failure.",
            [Query(queries.LATENCY, legend="{{endpoint}}")],
            "s",
            "not probed",
            LATENCY_STEPS,
        ),
        lines(
            "Latency over an hour",
            "Quantiles of /health over the hour before each point. One that climbs for hours warns.",
            [Query(queries.latency_quantile(q, "1h"), legend=f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]
            + [Query(queries.LATENCY_PREDICTED, legend="median predicted for an hour later")],
            "s",
            "not probed",
            LATENCY_STEPS,
        ),
    ],
)

TELLS = Row(
    "What it tells of itself",
    [
        lines(
            "Context in use",
            "Share of the model's context window. Above nine tenths people are told.",
            [Query(queries.CONTEXT, legend="{{bot}}")],
            "percentunit",
            "this bot does not tell",
            steps((GREEN, None), (YELLOW, 0.75), (RED, 0.9)),
            width=8,
        ),
        Spec(
            kind="timeseries",
            title="Tokens",
            description="Tokens it read and wrote.",
            queries=[
                Query(queries.TOKENS_IN, legend="read"),
                Query(queries.TOKENS_OUT, legend="written"),
            ],
            unit="short",
            width=8,
            no_value="this bot does not tell",
            custom={
                "drawStyle": "bars",
                "fillOpacity": 80,
                "lineWidth": 0,
                "stacking": {"group": "A", "mode": "normal"},
            },
            defaults={"min": 0},
        ),
        lines(
            "Requests",
            "Calls of the model that succeeded, a second.",
            [Query(queries.REQUESTS, legend="{{bot}}")],
            "reqps",
            "this bot does not tell",
            width=8,
        ),
        states(
            "Channels",
            "Whether the channels over which people reach it are up. One that stands by has none.",
            [Query(queries.CHANNELS, legend="{{channel}}")],
            "this bot has none, or does not tell",
            YES_NO,
            6,
            8,
        ),
        bars(
            "Failed calls",
            "Calls of the model that failed, by kind. A bot whose calls all fail answers nobody.",
            queries.FAILED,
            "{{kind}}",
            [],
            "this bot does not tell",
            6,
        ),
        lines(
            "Oldest call",
            "How long the oldest turn has been running, 0 without one.",
            [Query(queries.TURN_AGE, legend="{{bot}}")],
            "s",
            "this bot does not tell",
            width=6,
        ),
        lines(
            "Memory",
            "Resident memory of its process.",
            [Query(queries.MEMORY, legend="{{bot}}")],
            "bytes",
            "this bot does not tell",
            width=6,
        ),
        bars(
            "Restarts",
            "Restarts seen, by a changed started_at or boot_id, whoever caused them.",
            queries.RESTARTS,
            "restarts",
            [],
            "this bot does not tell",
            8,
        ),
        states(
            "Version",
            "The version it says it runs.",
            [Query(queries.VERSIONS, legend="{{version}}")],
            "not known to the exporter",
            words((1, "runs", BLUE)),
            8,
            8,
        ),
        states(
            "Configuration",
            "The configuration it says it runs, by its hash.",
            [Query(queries.CONFIGS, legend="{{config_sha}}")],
            "this bot does not tell",
            words((1, "runs", BLUE)),
            8,
            8,
        ),
        states(
            "Drift",
            "What is otherwise than declared. POST /bots/BOT/reconcile plans the way back.",
            [Query(queries.DRIFTED, legend="{{field}}")],
            "as declared",
            words((1, "differs", ORANGE)),
            24,
            4,
        ),
    ],
)

FAILURES = Row(
    "Failures",
    [
        states(
            "Answers",
            "Whether /health and /mesh were ok at the last probe.",
            [Query(queries.UP, legend="health"), Query(queries.MESH, legend="mesh")],
            "not probed",
            YES_NO,
        ),
        states(
            "Reasons",
            "Why an endpoint failed, while it did.",
            [Query(queries.REASONS, legend="{{endpoint}} {{reason}}")],
            "nothing failed",
            words((1, "failing", ORANGE)),
        ),
        lines(
            "Failures in a row",
            "Failed /health probes. Recovered at three with a score below 20, or at five.",
            [Query(queries.STREAK, legend="{{bot}}")],
            "short",
            "not probed",
            steps((GREEN, None), (ORANGE, 3), (RED, 5)),
        ),
        lines(
            "Mesh peers up",
            "Share of the bot's mesh peers that are up, where the bot lists them.",
            [Query(queries.PEERS, legend="{{bot}}")],
            "percentunit",
            "this bot lists no peers",
        ),
    ],
)

RECOVERY = Row(
    "Recovery",
    [
        states(
            "Alerts",
            "Alerts of this bot, pending and firing.",
            [Query(queries.ALERTS, legend="{{alertname}} {{alertstate}}")],
            "no alert",
            words((1, "yes", RED)),
        ),
        states(
            "What was done",
            "Recoveries and deployments of this bot and their tier; none before the first action.",
            [Query(queries.RUNS, legend="{{kind}} {{tier}}")],
            "nothing was done",
            words((1, "running", BLUE)),
        ),
        states(
            "Held back",
            "The gates its recovery waited at.",
            [Query(queries.GATES, legend="{{reason}}")],
            "never held back",
            words((1, "waiting", YELLOW)),
        ),
        states(
            "Quarantined",
            "Given up until a person recovers or redeploys the bot.",
            [Query(queries.QUARANTINE, legend="{{bot}}")],
            "never given up",
            words((0, "no", GREEN), (1, "yes", RED)),
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=BOT,
        title="Bots: one bot",
        description="Its score and what makes it, its latency, its failures, and what was done to it.",
        rows=[NOW, SCORE, LATENCY, FAILURES, TELLS, RECOVERY],
        one_bot=True,
        links=[
            link("Why?", f"{EXPORTER}/probe?bot=${{bot}}&debug=true", "Probe it now, and say what happened"),
            link(
                "Explain",
                f"{REMEDIATOR}/bots/${{bot}}/explain",
                "What came in, what the gates said, what was done and what comes next; asks for the token",
            ),
            link(
                "Silence",
                f"{ALERTMANAGER}/#/silences/new?filter=%7Bbot%3D%22${{bot}}%22%7D",
                "No messages about this bot, and no recovery, for a while",
            ),
            link("Runbook", RUNBOOK, "What each alert means and what to do"),
        ],
    )
