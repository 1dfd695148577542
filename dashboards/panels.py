"""Panels that are made the same way on every dashboard."""

from collections.abc import Sequence

from dashboards.house import GREEN, Json, Query, Spec, named, steps

FLEET = "bot-fleet"


def counter(title: str, description: str, expr: str, colours: Sequence[Json]) -> Spec:
    return Spec(
        kind="stat",
        title=title,
        description=description,
        queries=[Query(expr, legend=title, instant=True)],
        unit="short",
        width=4,
        height=4,
        thresholds=colours,
    )


def none_is_good(colour: str) -> list[Json]:
    return steps((GREEN, None), (colour, 1))


def table(
    title: str, description: str, expr: str, no_value: str, columns: dict[str, str], width: int
) -> Spec:
    """One row a series; `columns` are the labels shown, in order, with their headings."""
    return Spec(
        kind="table",
        title=title,
        description=description,
        queries=[Query(expr, instant=True, format="table")],
        unit="short",
        width=width,
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


def bot_link(bot: str) -> Json:
    return {
        "title": "Only this bot",
        "url": f"/d/{FLEET}?var-bot={bot}&${{datasource:queryparam}}&${{__url_time_range}}",
    }


def bars(
    title: str, description: str, expr: str, legend: str, colours: Sequence[Json], no_value: str
) -> Spec:
    return Spec(
        kind="timeseries",
        title=title,
        description=description,
        queries=[Query(expr, legend=legend)],
        unit="short",
        width=12,
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
