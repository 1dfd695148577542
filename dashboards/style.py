"""The style of every dashboard: what a panel is, in our words, and how each kind of it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from exporter.durations import parse_duration
from exporter.score import DEGRADED, MINOR, OPERATIONAL

Json = dict[str, Any]
Kind = Literal["stat", "timeseries", "state-timeline", "table", "heatmap", "bargauge"]

GREEN, YELLOW, ORANGE, RED = "green", "yellow", "orange", "red"
BLUE, PURPLE, GREY = "blue", "purple", "text"
DAY: Final = int(parse_duration("1d"))  # seconds
# The bands of the health score, from the lowest: name, colour, and the score from which on a bot is in it.
BANDS: Final = (
    ("critical", RED, 0),
    ("degraded", ORANGE, int(DEGRADED)),
    ("minor", YELLOW, int(MINOR)),
    ("operational", GREEN, int(OPERATIONAL)),
)
_ABOVE: Final = (*(lowest for _, _, lowest in BANDS[1:]), int(OPERATIONAL) + 1)
# The whole scores in a band, from the best band on.
BAND_SCORES: Final = {
    name: f"{lowest}-{above - 1}" if above - 1 > lowest else f"{lowest}"
    for (name, _, lowest), above in reversed([*zip(BANDS, _ABOVE, strict=True)])
}
BAND_COLOURS: Final = {name: colour for name, colour, _ in BANDS}


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how a series of it is called. `instant` asks for the last value only."""

    expr: str
    legend: str = "__auto"
    instant: bool = False
    format: Literal["time_series", "table", "heatmap"] = "time_series"


@dataclass(frozen=True, slots=True)
class Spec:
    """A panel in our own words; `width` in 24ths of the screen, `height` in Grafana's 30-pixel rows."""

    kind: Kind
    title: str
    description: str
    queries: Sequence[Query]
    unit: str
    width: int
    height: int = 8
    no_value: str = "no data"
    thresholds: Sequence[Json] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    custom: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A titled band of panels, laid out from left to right."""

    title: str
    panels: Sequence[Spec]


OPTIONS: Final[Mapping[str, Json]] = {
    "stat": {
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value",
        "wideLayout": True,
    },
    "timeseries": {
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "state-timeline": {
        "alignValue": "left",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "never",
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "bargauge": {
        "displayMode": "basic",
        "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": False},
        "maxVizHeight": 300,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "color",
    },
    "table": {"cellHeight": "sm", "showHeader": True},
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {
            "exponent": 0.5,
            "fill": "blue",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Blues",
            "steps": 32,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    },
}
CUSTOM: Final[Mapping[str, Json]] = {
    "bargauge": {},
    "stat": {},
    "timeseries": {
        "drawStyle": "line",
        "fillOpacity": 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "pointSize": 4,
        "showPoints": "never",
        "spanNulls": False,
    },
    "state-timeline": {"fillOpacity": 80, "lineWidth": 0},
    "table": {"align": "auto", "filterable": True},
    "heatmap": {},
}


def steps(*pairs: tuple[str, float | None]) -> list[Json]:
    """Return threshold steps. The first has no value: Grafana writes minus infinity as null."""
    return [{"color": colour, "value": value} for colour, value in pairs]


def score_steps() -> list[Json]:
    """Return the threshold steps of a score."""
    return steps(*((colour, None if lower == 0 else lower) for _, colour, lower in BANDS))


def score_mappings() -> list[Json]:
    """Map a score to the name of its band, in the band's colour."""
    uppers = [*(lower - 0.001 for _, _, lower in BANDS[1:]), BANDS[-1][2]]
    return [
        {
            "type": "range",
            "options": {
                "from": lower,
                "to": upper,
                "result": {"color": colour, "index": index, "text": name},
            },
        }
        for index, ((name, colour, lower), upper) in enumerate(zip(BANDS, uppers, strict=True))
    ]


def named(name: str, *properties: tuple[str, Any]) -> Json:
    """Return properties for the field of this name."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def fixed_colour(name: str, colour: str) -> Json:
    """Return the override that draws the field of this name in one colour."""
    return named(name, ("color", {"mode": "fixed", "fixedColor": colour}))
