"""Deployments and configurations: what is under way, which versions run, what drifted."""

from dashboards.adapter import dashboard
from dashboards.panels import CHANGES, bars, bot_link, counter, lines, none_is_good, table, wide_table
from dashboards.queries import deployments as queries
from dashboards.style import BLUE, DAY, GREEN, GREY, ORANGE, RED, YELLOW, Json, Query, Row, Spec, named, steps

NOW = Row(
    "Now, and in the time shown",
    [
        counter(
            "Under way",
            "Deployments, redeploys and retirements that are under way.",
            queries.RUNNING,
            steps((GREY, None), (BLUE, 1)),
        ),
        counter(
            "Failed",
            "Those that failed in the time shown. What they had launched was taken away again.",
            queries.FAILED,
            none_is_good(RED),
            no_value="no remediator",
        ),
        counter(
            "Rolled back",
            "Rollbacks that people asked for in the time shown.",
            queries.ROLLED_BACK,
            none_is_good(YELLOW),
            no_value="no remediator",
        ),
        counter(
            "Rolling updates",
            "Rolling updates that have not ended.",
            queries.ROLLING,
            steps((GREY, None), (BLUE, 1)),
        ),
        counter(
            "Drifted",
            "Bots whose instance, tags or configuration are not what was declared.",
            queries.DRIFTED,
            none_is_good(ORANGE),
        ),
        counter(
            "Orphans",
            "Instances tagged as ours that no bot and no run claims. They cost. GET /orphans lists them.",
            queries.LOST,
            none_is_good(ORANGE),
            no_value="not looked yet",
        ),
    ],
)

UNDER_WAY = Row(
    "Under way",
    [
        Spec(
            kind="bargauge",
            title="Progress",
            description="How far each deployment is, by the time its steps took in earlier ones.",
            queries=[Query(queries.PROGRESS, legend="{{bot}} ({{kind}})", instant=True)],
            unit="percentunit",
            width=12,
            no_value="nothing is being deployed",
            thresholds=steps((BLUE, None)),
            defaults={"min": 0, "max": 1},
        ),
        bars(
            "Ended, by outcome",
            "Deployments, redeploys and retirements that ended.",
            queries.OUTCOMES,
            "{{kind}} {{outcome}}",
            [],
            "none ended",
        ),
        Spec(
            kind="stat",
            title="How long they took",
            description="Half of them, and nineteen in twenty, took no longer, in the time shown.",
            queries=[
                Query(queries.duration(q), legend=f"{{{{kind}}}} p{q * 100:g}", instant=True)
                for q in (0.5, 0.95)
            ],
            unit="s",
            width=12,
            no_value="none ended",
            options={"textMode": "value_and_name", "colorMode": "value"},
        ),
        bars(
            "Launch errors",
            "What EC2 answered instead of an instance. Capacity: the next zone or type was tried.",
            queries.ERRORS,
            "{{kind}}",
            [],
            "no launch failed",
        ),
    ],
)

CONFIGURATIONS = Row(
    "Versions and drift",
    [
        wide_table(
            "Versions",
            "What each bot runs: the number of its configuration, the hash it reports, its software, and "
            "how old its instance is. GET /bots/BOT/versions has who, when, why and what changed.",
            [
                ("Configuration", queries.VERSION, None),
                ("Reported", queries.REPORTED, "config_sha"),
                ("Software", queries.SOFTWARE, "version"),
                ("Age of the instance", queries.AGE, None),
            ],
            "no bot is deployed",
            sort_by="Configuration",
            overrides=[
                named("Configuration", ("decimals", 0)),
                named("Age of the instance", ("unit", "s")),
                named("template", ("displayName", "Template")),
                named("environment", ("displayName", "Environment")),
            ],
        ),
        table(
            "Drift",
            "What is otherwise than declared. POST /bots/BOT/reconcile plans the way back.",
            queries.DRIFTED_FIELDS,
            "all is as declared",
            {"bot": "Bot", "field": "Field"},
            8,
        ),
        lines(
            "Software by version",
            "How many bots run which version: two lines that cross are an update.",
            [Query(queries.SOFTWARE_COUNT, legend="{{version}}")],
            "short",
            "no bot tells its version",
            width=8,
        ),
        Spec(
            kind="bargauge",
            title="Oldest instances",
            description="The twenty instances that were launched longest ago.",
            queries=[Query(queries.AGES, legend="{{bot}}", instant=True)],
            unit="s",
            width=8,
            no_value="no bot is deployed",
            thresholds=steps((GREEN, None), (YELLOW, 90 * DAY), (ORANGE, 180 * DAY)),
            defaults={"min": 0, "links": [bot_link("${__field.labels.bot}")]},
        ),
        counter(
            "Drift was looked for",
            "How long ago. The observer reads the whole fleet in a few calls.",
            queries.DRIFT_AGE,
            steps((GREEN, None), (YELLOW, 900), (RED, 3600)),
            unit="s",
            no_value="not looked yet",
            width=24,
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=CHANGES,
        title="Bots: deployments and configuration",
        description="What is being deployed, which versions run, what drifted, and how old instances are.",
        rows=[NOW, UNDER_WAY, CONFIGURATIONS],
    )
