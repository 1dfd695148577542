"""Panels that are made the same way on every dashboard."""

from collections.abc import Sequence

from dashboards.style import GREEN, GREY, ORANGE, RED, YELLOW, Json, Query, Spec, named, steps

# Uids are held by links in alerts, messages and bookmarks: they never change.
FLEET = "bot-fleet"
BOT = "bot-detail"
RECOVERIES = "bot-recoveries"
WATCHERS = "bot-watchers"
CHANGES = "bot-changes"
COST = "bot-cost"
AVAILABILITY_STEPS = steps((RED, None), (ORANGE, 0.95), (YELLOW, 0.99), (GREEN, 0.999))


def counter(
    title: str,
    description: str,
    expr: str,
    colours: Sequence[Json],
    *,
    unit: str = "short",
    no_value: str = "no data",
    mappings: Sequence[Json] = (),
    width: int = 4,
) -> Spec:
    """Return a panel of one number, in its colour."""
    return Spec(
        kind="stat",
        title=title,
        description=description,
        queries=[Query(expr, legend=title, instant=True)],
        unit=unit,
        width=width,
        height=4,
        no_value=no_value,
        thresholds=colours,
        defaults={"mappings": list(mappings)} if mappings else {},
    )


def none_is_good(colour: str) -> list[Json]:
    """Return threshold steps: green at 0, the colour from 1 on."""
    return steps((GREEN, None), (colour, 1))


def table(
    title: str,
    description: str,
    expr: str,
    no_value: str,
    columns: dict[str, str],
    width: int,
    height: int = 8,
) -> Spec:
    """Return a table, one row for each series; `columns`: label → heading, in order."""
    return Spec(
        kind="table",
        title=title,
        description=description,
        queries=[Query(expr, instant=True, format="table")],
        unit="short",
        width=width,
        height=height,
        no_value=no_value,
        overrides=[named("Bot", ("links", [bot_link("${__value.raw}")]))],
        transformations=[
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True} | ({} if "Value" in columns else {"Value": True}),
                    "indexByName": {name: index for index, name in enumerate(columns)},
                    "renameByName": columns,
                },
            }
        ],
    )


def wide_table(
    title: str,
    description: str,
    columns: Sequence[tuple[str, str, str | None]],
    no_value: str,
    *,
    sort_by: str,
    thresholds: Sequence[Json] = (),
    overrides: Sequence[Json] = (),
) -> Spec:
    """Return a table, one row for each bot; a column is (heading, PromQL, label or None for the value)."""
    refs = [f"Value #{chr(ord('A') + index)}" for index in range(len(columns))]
    headings = {label or ref: heading for ref, (heading, _, label) in zip(refs, columns, strict=True)}
    dropped = [ref for ref, (_, _, label) in zip(refs, columns, strict=True) if label]
    order = ["bot", *headings]
    return Spec(
        kind="table",
        title=title,
        description=description,
        queries=[Query(expr, instant=True, format="table") for _, expr, _ in columns],
        unit="short",
        width=24,
        height=10,
        no_value=no_value,
        thresholds=thresholds,
        overrides=[named("Bot", ("links", [bot_link("${__value.raw}")])), *overrides],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": dict.fromkeys(["Time", *dropped], True),
                    "indexByName": {name: index for index, name in enumerate(order)},
                    "renameByName": {"bot": "Bot", **headings},
                },
            },
            {"id": "sortBy", "options": {"fields": {}, "sort": [{"desc": True, "field": sort_by}]}},
        ],
    )


def bot_link(bot: str) -> Json:
    """Return a link to the dashboard of one bot, in the same time range."""
    return {
        "title": "This bot",
        "url": f"/d/{BOT}?var-bot={bot}&${{datasource:queryparam}}&${{__url_time_range}}",
    }


def bars(
    title: str,
    description: str,
    expr: str,
    legend: str,
    colours: Sequence[Json],
    no_value: str,
    width: int = 12,
) -> Spec:
    """Return a panel of stacked bars: how often something happened."""
    return Spec(
        kind="timeseries",
        title=title,
        description=description,
        queries=[Query(expr, legend=legend)],
        unit="short",
        width=width,
        no_value=no_value,
        custom={
            "drawStyle": "bars",
            "fillOpacity": 80,
            "lineWidth": 0,
            "stacking": {"group": "A", "mode": "normal"},
        },
        defaults={"min": 0, "decimals": 0},
        overrides=colours,
    )


def words(*pairs: tuple[int, str, str]) -> list[Json]:
    """Map values to words, in a colour each: (value, word, colour)."""
    return [
        {
            "type": "value",
            "options": {
                str(value): {"color": colour, "index": index, "text": text}
                for index, (value, text, colour) in enumerate(pairs)
            },
        }
    ]


YES_NO = words((0, "no", RED), (1, "yes", GREEN))


def states(
    title: str,
    description: str,
    queries: Sequence[Query],
    no_value: str,
    mappings: Sequence[Json],
    width: int = 12,
    height: int = 6,
) -> Spec:
    """Return a panel with a line for each series: when it was in which state."""
    return Spec(
        kind="state-timeline",
        title=title,
        description=description,
        queries=queries,
        unit="none",
        width=width,
        height=height,
        no_value=no_value,
        thresholds=steps((GREY, None)),
        defaults={"mappings": list(mappings)},
    )


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    no_value: str,
    thresholds: Sequence[Json] = (),
    width: int = 12,
) -> Spec:
    """Return a panel of numbers over time, from 0."""
    dashed = {"thresholdsStyle": {"mode": "dashed"}} if thresholds else {}
    return Spec(
        kind="timeseries",
        title=title,
        description=description,
        queries=queries,
        unit=unit,
        width=width,
        no_value=no_value,
        thresholds=thresholds,
        defaults={"min": 0, "color": {"mode": "palette-classic"}},
        custom=dashed,
    )
