"""Cost: what the fleet costs, where it goes, what the month will come to, and what could be saved."""

from dashboards.adapter import dashboard
from dashboards.panels import COST, bot_link, counter, lines, none_is_good, table
from dashboards.queries import cost as queries
from dashboards.style import BLUE, DAY, GREEN, ORANGE, RED, YELLOW, Json, Query, Row, Spec, steps

DOLLARS = "currencyUSD"

NOW = Row(
    "Now",
    [
        counter(
            "An hour",
            "What the instances, volumes and addresses of the chosen bots cost an hour. Without models.",
            queries.HOURLY,
            steps((BLUE, None)),
            unit=DOLLARS,
            no_value="no price is known",
        ),
        counter(
            "Models, a day",
            "What the requests of the last 24 hours to models have cost.",
            queries.MODELS_DAILY,
            steps((BLUE, None)),
            unit=DOLLARS,
            no_value="no bot reports usage",
        ),
        counter(
            "A month like this",
            "Both, at today's rate, for 730 hours.",
            queries.MONTHLY,
            steps((BLUE, None)),
            unit=DOLLARS,
            no_value="no price is known",
        ),
        counter(
            "Could be saved a month",
            "What following every recommendation that saves would save. GET /recommendations has the "
            "commands.",
            queries.SAVABLE,
            steps((GREEN, None), (YELLOW, 1), (ORANGE, 100)),
            unit=DOLLARS,
        ),
        counter(
            "Unknown",
            "Components of a bot without a known price. They are in no sum on this page.",
            queries.UNKNOWN,
            none_is_good(YELLOW),
        ),
        Spec(
            kind="stat",
            title="Age of the prices",
            description="How old the prices are, by where they came from.",
            queries=[Query(queries.PRICES_AGE, legend="{{source}}", instant=True)],
            unit="s",
            width=4,
            height=4,
            no_value="no price is known",
            thresholds=steps((GREEN, None), (YELLOW, 180 * DAY), (ORANGE, 365 * DAY)),
            options={"textMode": "value_and_name"},
        ),
    ],
)

WHERE = Row(
    "Where it goes",
    [
        Spec(
            kind="bargauge",
            title="The twenty dearest bots",
            description="Instance, volume and address, an hour.",
            queries=[Query(queries.BY_BOT, legend="{{bot}}", instant=True)],
            unit=DOLLARS,
            width=12,
            height=10,
            no_value="no price is known",
            thresholds=steps((BLUE, None)),
            defaults={"min": 0, "decimals": 4, "links": [bot_link("${__field.labels.bot}")]},
        ),
        lines(
            "By template, an hour",
            "Instances, volumes and addresses.",
            [Query(queries.BY_TEMPLATE, legend="{{template}}")],
            DOLLARS,
            "no price is known",
        ),
        lines(
            "By component, an hour",
            "Burst is what an instance in unlimited mode used above its credits.",
            [Query(queries.BY_COMPONENT, legend="{{component}}")],
            DOLLARS,
            "no price is known",
        ),
        lines(
            "By model, an hour",
            "From the usage that bots report, priced request by request.",
            [Query(queries.BY_MODEL, legend="{{model}}")],
            DOLLARS,
            "no bot reports usage",
        ),
        Spec(
            kind="bargauge",
            title="Models by template",
            description="What models cost in the time shown.",
            queries=[Query(queries.MODEL_OF_TEMPLATE, legend="{{template}}", instant=True)],
            unit=DOLLARS,
            width=6,
            no_value="no bot reports usage",
            thresholds=steps((BLUE, None)),
            defaults={"min": 0, "decimals": 4},
        ),
        counter(
            "Models, in the time shown",
            "What the chosen bots' requests to models cost.",
            queries.MODELS_SPENT,
            steps((BLUE, None)),
            unit=DOLLARS,
            no_value="no bot reports usage",
            width=6,
        ),
    ],
)

BUDGETS = Row(
    "Budgets",
    [
        Spec(
            kind="bargauge",
            title="Projection, of the budget",
            description="What will have been spent at the end of the month, as a share of what may be.",
            queries=[Query(queries.SHARE, legend="{{scope}} {{name}}", instant=True)],
            unit="percentunit",
            width=12,
            no_value="no budget is set: PUT /budgets/fleet/all sets one",
            thresholds=steps((GREEN, None), (YELLOW, 0.9), (RED, 1)),
            defaults={"min": 0, "max": 1.5},
        ),
        lines(
            "Spent, projected, allowed",
            "Of this month, by budget.",
            [
                Query(queries.SPENT, legend="{{scope}} {{name}}: spent"),
                Query(queries.PROJECTED, legend="{{scope}} {{name}}: projected"),
                Query(queries.LIMITS, legend="{{scope}} {{name}}: allowed"),
            ],
            DOLLARS,
            "no budget is set: PUT /budgets/fleet/all sets one",
        ),
    ],
)

ADVICE = Row(
    "What could be changed",
    [
        table(
            "Recommendations",
            "By bot and kind. Below zero it costs more, and is for the bot's health. "
            "GET /recommendations has the evidence, the risk and the command.",
            queries.ADVICE,
            "nothing to change",
            {"bot": "Bot", "kind": "Kind", "Value": "Saving a month"},
            12,
        ),
        lines(
            "Savings by kind, a month",
            "What following all of a kind would save.",
            [Query(queries.SAVABLE_BY_KIND, legend="{{kind}}")],
            DOLLARS,
            "nothing to change",
        ),
    ],
)


def build() -> Json:
    return dashboard(
        uid=COST,
        title="Bots: cost",
        description="What the fleet costs, where it goes, what the month will come to, what could be saved.",
        rows=[NOW, WHERE, BUDGETS, ADVICE],
    )
