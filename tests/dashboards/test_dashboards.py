"""A lint of the files Grafana reads, by Grafana's dashboard-linter and by our own style."""

import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.__main__ import DASHBOARDS, ROOT, main
from dashboards.__main__ import GENERATED as FOLDER
from dashboards.style import BANDS

Json = dict[str, Any]
GENERATED = ROOT / FOLDER
BOARDS = {path.name: json.loads(path.read_text()) for path in sorted(GENERATED.glob("*.json"))}
# Keys of the Angular era, which Grafana 11 and later ignore or misread.
ANGULAR = {"__inputs", "aliasColors", "editable", "gauge", "gnetId", "hideControls", "intervalFactor", "rows"}
ANGULAR |= {"nullPointMode", "seriesOverrides", "sharedCrosshair", "span", "sparkline", "step", "style"}
ANGULAR |= {"valueName", "xaxis", "yaxes"}
PLUGINS = {"row", "stat", "timeseries", "state-timeline", "table", "heatmap", "bargauge"}


def panels(board: Json) -> list[Json]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS.keys())
each_panel = pytest.mark.parametrize(
    "panel",
    [
        pytest.param(panel, id=f"{name}-{panel['title']}")
        for name, board in BOARDS.items()
        for panel in panels(board)
    ],
)


def walk(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, f"{path}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from walk(value, f"{path}[]")


def test_every_dashboard_of_the_code_is_written() -> None:
    assert set(BOARDS) == set(DASHBOARDS)


def test_files_are_what_the_code_makes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_check_shows_what_differs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    folder = tmp_path / FOLDER
    changed = folder / "fleet.json"
    text = changed.read_text().replace('"title": "Health by bot"', '"title": "Changed by hand"')
    changed.write_text(text)
    (folder / "gone.json").write_text("{}\n")
    assert main(["--check", "--root", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert '-      "title": "Changed by hand"' in printed.out
    assert '+      "title": "Health by bot"' in printed.out
    assert "gone.json" in printed.out
    assert "python -m dashboards" in printed.err
    assert changed.read_text() == text
    assert main(["--root", str(tmp_path)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(DASHBOARDS)
    assert [path.name for path in (tmp_path / "alerts").iterdir()] == ["rules-budget.yml"]


def test_the_same_code_makes_the_same_bytes(tmp_path: Path) -> None:
    for build in DASHBOARDS.values():
        assert json.dumps(build()) == json.dumps(build())


def test_uids_are_stable_and_unique() -> None:
    """Links in alerts, messages and bookmarks hold them: changing one breaks those."""
    uids = [board["uid"] for board in BOARDS.values()]
    assert len(set(uids)) == len(uids)
    assert {name: board["uid"] for name, board in BOARDS.items()} == {
        "fleet.json": "bot-fleet",
        "bot.json": "bot-detail",
        "recoveries.json": "bot-recoveries",
        "changes.json": "bot-changes",
        "cost.json": "bot-cost",
        "watchers.json": "bot-watchers",
    }


@each_board
def test_a_dashboard_is_in_todays_model(board: Json) -> None:
    assert board["schemaVersion"] >= 39
    assert board["title"]
    assert board["description"]
    assert "bot-orchestrator" in board["tags"]
    assert board["graphTooltip"] == 1, "a crosshair over all panels"
    for path, node in walk(board):
        if isinstance(node, dict):
            dead = ANGULAR & node.keys() if path else (ANGULAR - {"editable"}) & node.keys()
            assert not dead, f"{path}: {dead}"
        # Grafana writes the first step of thresholds, minus infinity, as null; it allows no other null.
        assert node is not None or path.endswith("thresholds.steps[].value"), path


@each_board
def test_panels_have_unique_ids_and_do_not_overlap(board: Json) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    positions = [(panel["title"], panel["gridPos"]) for panel in board["panels"]]
    for _, position in positions:
        assert position["x"] >= 0
        assert position["x"] + position["w"] <= 24
        assert position["h"] > 0
    for (title, a), (other, b) in combinations(positions, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{title!r} overlaps {other!r}"


@each_board
def test_variables_are_the_same_everywhere(board: Json) -> None:
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    one_bot = board["uid"] == "bot-detail"
    assert list(variables) == ["datasource", "environment", "template", "bot"]
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("environment", "template", "bot"):
        variable = variables[name]
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert variable["query"]["query"] == variable["definition"]
        if name == "bot" and one_bot:
            assert not variable["multi"]
            assert not variable["includeAll"]
        else:
            assert variable["multi"]
            assert variable["includeAll"]
            assert variable["allValue"] == ".*", "All must not become a list of 50,000 bots"


@each_board
def test_links_keep_time_and_variables(board: Json) -> None:
    (tagged,) = (link for link in board["links"] if link["type"] == "dashboards")
    assert tagged["tags"] == ["bot-orchestrator"]
    assert tagged["keepTime"]
    assert tagged["includeVars"]


def test_links_lead_to_dashboards_that_exist() -> None:
    uids = {board["uid"] for board in BOARDS.values()}
    for board in BOARDS.values():
        for path, node in walk(board):
            if path.endswith(".url") and isinstance(node, str) and node.startswith("/d/"):
                match = re.match(r"/d/([\w-]+)\?", node)
                assert match is not None
                assert match[1] in uids, node


@each_panel
def test_a_panel_can_be_understood(panel: Json) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["type"] in PLUGINS
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["noValue"]


@each_panel
def test_a_panel_asks_the_chosen_datasource(panel: Json) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == chosen
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"] == chosen
        assert target["instant"] != target["range"]
        assert target["expr"]


@each_panel
def test_rates_follow_the_scrape_interval(panel: Json) -> None:
    for target in panel["targets"]:
        for window in re.findall(r"\b(?:rate|increase)\([^\[\]]*\[([^\]]+)\]", target["expr"]):
            # A single number sums up all of the time shown.
            # Or of the day or month its title speaks of.
            sums = {"$__range", "1d", "30d"}
            assert window == "$__rate_interval" or (window in sums and target["instant"])
        # A counter is never shown raw.
        for counter in re.findall(r"\w+_(?:total|bucket)\b", target["expr"]):
            assert re.search(rf"(rate|increase)\({counter}", target["expr"])


@each_panel
def test_now_is_asked_for_once(panel: Json) -> None:
    """A stat or a table that shows the present asks for one value and not for three hours of them."""
    wanted = panel["type"] in {"stat", "table", "bargauge"}
    assert all(target["instant"] is wanted for target in panel["targets"])


def test_queries_follow_the_variables() -> None:
    """Where the question is about bots, it is about the chosen ones; runs that ended have no bot any more."""
    fleet_wide = {"Automatic recovery", "Recoveries by outcome", "Attempts by tier and outcome"}
    fleet_wide |= {"Recovered today", "Error budget burn"}
    for name in ("fleet.json", "bot.json"):
        for panel in panels(BOARDS[name]):
            for target in panel["targets"]:
                follows = re.search(r"\$(environment|template|bot)\b", target["expr"])
                assert follows or panel["title"] in fleet_wide, panel["title"]


@each_panel
def test_scores_have_one_colour_scale(panel: Json) -> None:
    """Red below 30, orange below 70, yellow below 100, green at 100, wherever a score is drawn."""
    expressions = [target["expr"] for target in panel["targets"]]
    if any(re.match(r"\(?max by \(bot\) \(bot_health_score", expr) for expr in expressions):
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"] == [
            {"color": "red", "value": None},
            {"color": "orange", "value": 30},
            {"color": "yellow", "value": 70},
            {"color": "green", "value": 100},
        ]


def test_a_score_is_named_by_its_band() -> None:
    (panel,) = (panel for panel in panels(BOARDS["fleet.json"]) if panel["title"] == "Health by bot")
    bands = [mapping["options"] for mapping in panel["fieldConfig"]["defaults"]["mappings"]]

    def band(score: float) -> str:
        (name,) = (b["result"]["text"] for b in bands if b["from"] <= score <= b["to"])
        return str(name)

    edges = [(0, "critical"), (29.99, "critical"), (30, "degraded"), (69.99, "degraded"), (70, "minor")]
    edges += [(99.99, "minor"), (100, "operational")]
    assert [(score, band(score)) for score, _ in edges] == edges
    assert [name for name, _, _ in BANDS] == ["critical", "degraded", "minor", "operational"]


def test_the_fleet_shows_what_was_promised() -> None:
    titles = {panel["title"] for panel in panels(BOARDS["fleet.json"])}
    assert titles >= {
        "Bots", "Healthy", "Degraded", "Critical", "Stale", "Firing alerts", "Health by bot", "Health score",
        "Latency by bot", "Failures by reason", "Attempts by tier and outcome", "Recoveries by outcome",
        "Running now", "Blocked", "Recovered today", "Availability", "Error budget left", "Bots by urgency",
        "Worst ten", "Error budget burn", "Distribution of latency",
    }  # fmt: skip


# Provisioning, as https://grafana.com/docs/grafana/latest/administration/provisioning/ describes it.


def test_datasources_are_provisioned() -> None:
    file = GENERATED.parent / "provisioning" / "datasources" / "prometheus.yaml"
    config = yaml.safe_load(file.read_text())
    fields = {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
    assert config["apiVersion"] == 1
    for source in config["datasources"]:
        assert source.keys() <= fields
        assert source["access"] == "proxy"
    assert [source["type"] for source in config["datasources"] if source.get("isDefault")] == ["prometheus"]
    prometheus, alertmanager = config["datasources"]
    scrape = yaml.safe_load((GENERATED.parents[1] / "alerts" / "prometheus.yml").read_text())
    assert prometheus["jsonData"]["timeInterval"] == scrape["global"]["scrape_interval"]
    assert prometheus["jsonData"]["alertmanagerUid"] == alertmanager["uid"]


def test_dashboards_are_provisioned() -> None:
    file = GENERATED.parent / "provisioning" / "dashboards" / "bots.yaml"
    config = yaml.safe_load(file.read_text())
    (provider,) = config["providers"]
    fields = {
        "name", "orgId", "folder", "folderUid", "type", "disableDeletion", "updateIntervalSeconds",
        "allowUiUpdates", "options",
    }  # fmt: skip
    assert config["apiVersion"] == 1
    assert provider.keys() <= fields
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["options"] == {"path": "/var/lib/grafana/dashboards"}
