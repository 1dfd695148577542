"""What Grafana's dashboard-linter asks for, rule by rule and by its names (github.com/grafana).

The linter is a Go program; these are its rules as they bear on dashboards over Prometheus.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

import pytest
from promql_parser import parse

from dashboards.__main__ import GENERATED, ROOT

Json = dict[str, Any]
BOARDS: Final = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / GENERATED).glob("*.json"))
}
# Of Grafana's units (grafana-data, valueFormats/categories.ts), those we use.
UNITS: Final = {"none", "short", "percentunit", "s", "bytes", "reqps", "currencyUSD"}
MADE_UP: Final = {"__rate_interval": "7m", "__range": "11m"}

# Rules of the linter that would be wrong here, and why.
LEFT_OUT: Final = {
    "template-job-rule": "a bot is chosen by environment, template and bot; the job is always the exporter's",
    "template-instance-rule": "one bot is one bot, whichever exporter sees it",
    "target-job-rule": "as template-job-rule",
    "target-instance-rule": "as template-instance-rule",
    "target-logql-rule": "no Loki",
    "target-logql-auto-rule": "no Loki",
}


def panels(board: Json) -> Iterator[Json]:
    return (panel for panel in board["panels"] if panel["type"] != "row")


def targets(board: Json) -> Iterator[tuple[str, Json]]:
    return ((panel["title"], target) for panel in panels(board) for target in panel.get("targets", []))


def expanded(expr: str) -> str:
    return re.sub(r"\$(\w+)", lambda match: MADE_UP.get(match[1], ".*"), expr)


def template_datasource(board: Json) -> Iterator[str]:
    sources = [v for v in board["templating"]["list"] if v["type"] == "datasource"]
    if [(v["name"], v["label"], v["query"]) for v in sources] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield "no single data source variable `datasource`, labelled `Data source`"


def template_label_promql(board: Json) -> Iterator[str]:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), ?\w+\)", variable["query"]["query"])
            if match is None:
                yield f"{variable['name']}: not label_values(selector, label)"
            else:
                parse(expanded(match[1]))


def template_on_time_change_reload(board: Json) -> Iterator[str]:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield f"{variable['name']}: is not read again when the time range changes"


def panel_datasource(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if panel["datasource"].get("uid") not in ("$datasource", "${datasource}"):
            yield f"{panel['title']}: does not use the templated data source"


def panel_title_description(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield f"{panel.get('title')}: no title or no description"


def panel_units(board: Json) -> Iterator[str]:
    for panel in panels(board):
        unit = panel["fieldConfig"]["defaults"].get("unit")
        if unit not in UNITS:
            yield f"{panel['title']}: unit {unit!r}"


def panel_no_targets(board: Json) -> Iterator[str]:
    for panel in panels(board):
        if not panel.get("targets"):
            yield f"{panel['title']}: asks nothing"


def target_promql(board: Json) -> Iterator[str]:
    for title, target in targets(board):
        try:
            parse(expanded(target["expr"]))
        except ValueError as error:
            yield f"{title}: {error}"


def shown_raw(board: Json, endings: str) -> Iterator[str]:
    """Counters that are not at once inside of rate, irate or increase."""
    for title, target in targets(board):
        for function, series in re.findall(rf"(?:(\w+)\()?\b(\w+_(?:{endings}))\b", target["expr"]):
            if function not in {"rate", "irate", "increase"}:
                yield f"{title}: {series} is a counter, shown raw"


def target_rate_interval(board: Json) -> Iterator[str]:
    """Over the time shown, and over days or a month, in a single number: as the panel's title says."""
    for title, target in targets(board):
        for window in re.findall(r"\b(?:i?rate|increase)\([^\[\]]*\[([^\]]+)\]", target["expr"]):
            if window != "$__rate_interval" and not (
                target["instant"] and window in {"$__range", "1d", "30d"}
            ):
                yield f"{title}: {window}"


def target_counter_agg(board: Json) -> Iterator[str]:
    return shown_raw(board, "total")


def target_histogram(board: Json) -> Iterator[str]:
    return shown_raw(board, "bucket|count|sum")


def template_unused(board: Json) -> Iterator[str]:
    text = json.dumps([board["panels"], board["annotations"], board["links"]])
    text += json.dumps([v["query"] for v in board["templating"]["list"]])
    for variable in board["templating"]["list"]:
        if f"${variable['name']}" not in text and f"${{{variable['name']}" not in text:
            yield f"{variable['name']} is not used"


def uneditable_dashboard(board: Json) -> Iterator[str]:
    if board.get("editable", True):
        yield "is editable: what is changed by hand is lost with the next version"


RULES: Final[Mapping[str, Callable[[Json], Iterator[str]]]] = {
    f"{rule.__name__.replace('_', '-')}-rule": rule
    for rule in (
        template_datasource,
        template_label_promql,
        template_on_time_change_reload,
        template_unused,
        panel_datasource,
        panel_title_description,
        panel_units,
        panel_no_targets,
        target_promql,
        target_rate_interval,
        target_counter_agg,
        target_histogram,
        uneditable_dashboard,
    )
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_keeps_the_linters_rules(name: str, rule: str) -> None:
    # The data source and the bots are chosen on every dashboard alike, also where one of them changes little.
    assert [
        fault for fault in RULES[rule](BOARDS[name]) if rule != "template-unused-rule" or name == "fleet"
    ] == []


BREAKS: Final[Mapping[str, Callable[[Json], object]]] = {
    "template-datasource-rule": lambda b: b["templating"]["list"].pop(0),
    "template-label-promql-rule": lambda b: b["templating"]["list"][1]["query"].update(
        query="query_result(up)"
    ),
    "template-on-time-change-reload-rule": lambda b: b["templating"]["list"][1].update(refresh=1),
    "template-unused-rule": lambda b: b["templating"]["list"].append(
        {"name": "spare", "type": "custom", "query": ""}
    ),
    "panel-datasource-rule": lambda b: b["panels"][1].update(datasource={"uid": "prometheus"}),
    "panel-title-description-rule": lambda b: b["panels"][1].update(description=""),
    "panel-units-rule": lambda b: b["panels"][1]["fieldConfig"]["defaults"].update(unit="bananas"),
    "panel-no-targets-rule": lambda b: b["panels"][1].update(targets=[]),
    "target-promql-rule": lambda b: b["panels"][1]["targets"][0].update(expr="sum(up"),
    "target-rate-interval-rule": lambda b: b["panels"][1]["targets"][0].update(expr="rate(up[5m])"),
    "target-counter-agg-rule": lambda b: b["panels"][1]["targets"][0].update(expr="sum(a_total)"),
    "target-histogram-rule": lambda b: b["panels"][1]["targets"][0].update(expr="sum(a_bucket)"),
    "uneditable-dashboard-rule": lambda b: b.update(editable=True),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_finds_what_it_is_for(rule: str) -> None:
    board = deepcopy(BOARDS["fleet"])
    BREAKS[rule](board)
    assert list(RULES[rule](board))


def test_what_is_left_out_has_a_reason() -> None:
    assert all(LEFT_OUT.values())
    assert not LEFT_OUT.keys() & RULES.keys()
