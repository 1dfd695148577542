"""Recoveries: what was tried, what helped, how long it took, and what holds it back."""

from dashboards.adapter import dashboard
from dashboards.panels import RECOVERIES, bars, counter, lines, none_is_good, states, table, words
from dashboards.queries import recoveries as queries
from dashboards.queries.selection import count
from dashboards.style import (
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
    steps,
)

ON_OR_HELD = words((0, "on", GREEN), (1, "held back", RED))
OUTCOMES = [
    fixed_colour("recovered", GREEN),
    fixed_colour("escalated", RED),
    fixed_colour("unneeded", BLUE),
    fixed_colour("resolved", YELLOW),
    fixed_colour("cancelled", GREY),
]

NOW = Row(
    "In the time shown, and now",
    [
        counter(
            "Recovered",
            "Bots brought back in the time shown.",
            queries.runs("recover", "recovered"),
            steps((GREEN, None)),
            no_value="no remediator",
        ),
        counter(
            "Escalated",
            "Bots no tier could recover, in the time shown: each waits for a person.",
            queries.runs("recover", "escalated"),
            none_is_good(RED),
            no_value="no remediator",
        ),
        counter(
            "Running",
            "All runs that are under way.",
            count(queries.RUNNING),
            steps((BLUE, None)),
        ),
        counter(
            "Blocked",
            "Recoveries that wait at a gate.",
            count(queries.WAITING),
            none_is_good(YELLOW),
        ),
        counter(
            "Quarantined",
            "Bots that wait for a person.",
            count(queries.GIVEN_UP),
            none_is_good(RED),
        ),
        counter(
            "Automatic recovery",
            "Held back while more bots are ill than may be recovered at once.",
            queries.HELD_BACK,
            steps((GREEN, None), (RED, 1)),
            unit="none",
            no_value="no remediator",
            mappings=ON_OR_HELD,
        ),
    ],
)

OUTCOME = Row(
    "Outcomes",
    [
        bars(
            "Recoveries by outcome",
            "Recoveries that ended. Unneeded: the bot was well when looked at. Escalated: no tier helped.",
            queries.RECOVERED,
            "{{outcome}}",
            OUTCOMES,
            "no recovery ended",
        ),
        bars(
            "Attempts by tier and outcome",
            "Restarts, reboots and redeploys, by what verification saw. Failed: it could not be carried out.",
            queries.TIERS,
            "{{tier}} {{outcome}}",
            [],
            "no attempt was made",
        ),
        Spec(
            kind="stat",
            title="Success by tier",
            description="Share of a tier's attempts after which the bot was healthy. A low share costs "
            "time: the tier's deadline passes before the next one starts.",
            queries=[Query(queries.TIER_SUCCESS, legend="{{tier}}", instant=True)],
            unit="percentunit",
            width=6,
            no_value="no attempt was made",
            thresholds=steps((RED, None), (ORANGE, 0.25), (YELLOW, 0.5), (GREEN, 0.75)),
            options={"textMode": "value_and_name"},
        ),
        Spec(
            kind="stat",
            title="Time to recover",
            description="From the fault, as the oldest alert dates it, to proven health: half of them, and "
            "nineteen in twenty, took no longer.",
            queries=[
                Query(queries.time_to_recover(q), legend=f"p{q * 100:g}", instant=True) for q in (0.5, 0.95)
            ],
            unit="s",
            width=6,
            no_value="no bot was recovered",
            options={"textMode": "value_and_name", "colorMode": "value"},
        ),
        Spec(
            kind="heatmap",
            title="Distribution of time to recover",
            description="How many recoveries took how long, from the start of the oldest alert to health.",
            queries=[Query(queries.RECOVERY_SECONDS, legend="{{le}}", format="heatmap")],
            unit="short",
            width=12,
            no_value="no recovery ended",
        ),
        bars(
            "Deployments by outcome",
            "Deployments that ended.",
            queries.DEPLOYED,
            "{{outcome}}",
            [fixed_colour("deployed", GREEN), fixed_colour("failed", RED)],
            "no deployment ended",
        ),
        lines(
            "Running by tier",
            "Runs under way, by kind and the tier they are at.",
            [Query(queries.RUNNING_BY_TIER, legend="{{kind}} {{tier}}")],
            "short",
            "nothing is running",
        ),
    ],
)

GATES = Row(
    "Gates",
    [
        lines(
            "Share of ill bots",
            "What the fleet gate's newest census found, and the limit above which it holds back.",
            [Query(queries.ILL, legend="ill"), Query(queries.ILL_LIMIT, legend="limit")],
            "percentunit",
            "no remediator",
        ),
        bars(
            "Held back by gate",
            "How often a gate began to hold a recovery back.",
            queries.GATES,
            "{{reason}}",
            [],
            "nothing was held back",
        ),
        states(
            "Storm",
            "When the fleet gate held automatic recovery back.",
            [Query(queries.HELD_BACK, legend="automatic recovery")],
            "no remediator",
            ON_OR_HELD,
            24,
            4,
        ),
    ],
)

WHO = Row(
    "Which bots",
    [
        table(
            "Running now",
            "Recoveries and deployments under way, and the tier they are at.",
            queries.RUNNING,
            "nothing is running",
            {"bot": "Bot", "kind": "Kind", "tier": "Tier"},
            8,
        ),
        table(
            "Blocked now",
            "Recoveries that wait at a gate, and which: GET /recover/{recoveryId} lists every verdict.",
            queries.WAITING,
            "nothing is held back",
            {"bot": "Bot", "reason": "Gate"},
            8,
        ),
        table(
            "Quarantined now",
            "Bots no tier could recover. They are left alone until a person recovers or redeploys them.",
            queries.GIVEN_UP,
            "no bot waits for a person",
            {"bot": "Bot"},
            8,
        ),
    ],
)

INTAKE = Row(
    "Alerts in, messages out",
    [
        bars(
            "Alerts received",
            "Alerts in Alertmanager's webhook calls, repeats included.",
            queries.INTAKE,
            "{{status}}",
            [fixed_colour("firing", ORANGE), fixed_colour("resolved", GREEN)],
            "no remediator",
            8,
        ),
        bars(
            "Alerts that led to nothing",
            "Firing alerts without a run, and why. The Watchdog is one of no_bot_label.",
            queries.IGNORED,
            "{{reason}}",
            [],
            "none",
            8,
        ),
        bars(
            "Messages to people",
            "Messages the remediator sent, and those it could not.",
            queries.MESSAGES,
            "{{channel}} {{outcome}}",
            [],
            "no message",
            8,
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=RECOVERIES,
        title="Bots: recoveries",
        description="What was tried, what helped, how long it took, and what holds it back.",
        rows=[NOW, OUTCOME, GATES, WHO, INTAKE],
    )
