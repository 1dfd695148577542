"""What is published meets what is asked for: every series and label in a rule or a panel exists."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_parser import AggregateExpr, BinaryExpr, VectorSelector, parse, walk

from exporter import metrics as exporter_metrics
from remediator import metrics as remediator_metrics

ROOT = Path(__file__).parents[2]
SCRAPED = {"job", "instance"}
# What Prometheus and Alertmanager say of themselves and of what they scrape.
THIRD_PARTY = {
    "up": set[str](),
    "scrape_duration_seconds": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_resident_memory_bytes": set[str](),
    "ALERTS": {"alertname", "alertstate", "bot", "environment", "template", "severity"},
    "alertmanager_alerts": {"state"},
    "alertmanager_notification_latency_seconds_bucket": {"integration", "le"},
    "alertmanager_notifications_failed_total": {"integration"},
    "alertmanager_notifications_total": {"integration"},
    "aws_ec2_cpuutilization_average": {"instance_id"},
    "aws_ec2_cpuutilization_maximum": {"instance_id"},
    "aws_cwagent_mem_used_percent_average": {"instance_id"},
    "cwagent_mem_used_percent_average": {"instance_id"},
    "node_cpu_seconds_total": {"bot", "mode"},
    "node_memory_MemAvailable_bytes": {"bot"},
    "node_memory_MemTotal_bytes": {"bot"},
    "prometheus_notifications_dropped_total": set[str](),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
    "prometheus_rule_group_last_duration_seconds": {"rule_group"},
}


def published() -> dict[str, set[str]]:
    """Return names as they are scraped, each with its labels."""
    families = [(f.name, f.type, f.labels) for f in exporter_metrics.ALL]
    families += [(s.name, s.kind, s.labels) for s in remediator_metrics.SERIES]
    names: dict[str, set[str]] = {}
    for name, kind, labels in families:
        if kind == "histogram":
            names |= {
                f"{name}_bucket": {*labels, "le"},
                f"{name}_sum": set(labels),
                f"{name}_count": set(labels),
            }
        else:
            names[name] = set(labels)
    return names


def rules() -> Iterator[Mapping[str, Any]]:
    for path in sorted((ROOT / "alerts").glob("rules-*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def labels_of(expression: str) -> set[str]:
    """Return every label an expression groups, joins or selects by."""
    labels: set[str] = set()

    def visit(node: object) -> None:
        modifier = getattr(node, "modifier", None)
        if isinstance(node, AggregateExpr) and modifier is not None:
            labels.update(modifier.labels)
        if isinstance(node, BinaryExpr) and modifier is not None:
            labels.update(modifier.matching.labels if modifier.matching else [])
            labels.update(modifier.group_labels or [])
        if isinstance(node, VectorSelector):
            labels.update(matcher.name for matcher in node.matchers.matchers)

    walk(parse(expression), visit)
    return labels


def selected(expression: str) -> dict[str, set[str]]:
    """Return the series an expression reads, each with the labels it selects them by."""
    series: dict[str, set[str]] = {}

    def visit(node: object) -> None:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, VectorSelector):
            labels = {matcher.name for matcher in selector.matchers.matchers}
            series.setdefault(selector.name or "", set()).update(labels)

    walk(parse(expression), visit)
    return series


def recorded() -> dict[str, set[str]]:
    """Return the recording rules, each with the labels its expression keeps and its own."""
    names: dict[str, set[str]] = {}
    for rule in rules():
        if "record" in rule:
            labels = labels_of(rule["expr"]) | set(rule.get("labels", {}))
            for series in selected(rule["expr"]):  # files and rules are in the order of their dependence
                labels |= names.get(series, set())
            names.setdefault(rule["record"], set()).update(labels - {"le"})
    return names


KNOWN = published() | recorded() | THIRD_PARTY


def substituted(expression: str) -> str:
    """Return the expression as Grafana would send it."""
    return re.sub(
        r"\$(environment|template|bot)\b", ".*", re.sub(r"\$__(rate_interval|range)", "1m", expression)
    )


def expressions() -> Iterator[Any]:
    for rule in rules():
        yield pytest.param(rule["expr"], id=rule.get("alert") or rule["record"])
    for path in sorted((ROOT / "dashboards" / "generated").glob("*.json")):
        board = json.loads(path.read_text())
        for annotation in board["annotations"]["list"]:
            yield pytest.param(annotation["expr"], id=f"{path.stem}-{annotation['name']}")
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield pytest.param(target["expr"], id=f"{path.stem}-{panel['title']}-{target['refId']}")


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_series_and_label_asked_for_is_published(expression: str) -> None:
    text = substituted(expression)
    series = selected(text)
    assert series or text == "vector(1)"
    assert series.keys() <= KNOWN.keys()
    for name, labels in series.items():
        assert labels <= KNOWN[name] | SCRAPED, name
    available = set[str]().union(SCRAPED, *(KNOWN[name] for name in series))
    assert labels_of(text) <= available


def test_a_misspelt_label_or_series_would_be_found() -> None:
    assert "bot_helth_score" not in KNOWN
    assert labels_of('sum by (botname) (bot_up{bto="a"}) * on (bot) group_left (tmpl) bot_info') == {
        "botname",
        "bto",
        "bot",
        "tmpl",
    }
    assert selected("rate(a_total[5m]) / on (x) max(b{y='z'})") == {"a_total": set(), "b": {"y"}}


def test_thresholds_are_read_and_not_repeated() -> None:
    """A number that the exporter publishes has no second home in the rules."""
    text = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    assert 'bot_health_score_threshold{level="low"}' in text["BotHealthScoreLow"]
    assert 'bot_health_score_threshold{level="critical"}' in text["BotHealthScoreCritical"]
    assert "bot_probe_failure_streak_threshold" in text["BotHealthScoreCritical"]
    assert "bot_probe_interval_seconds" in text["BotProbeStale"]
    assert "bot_remediation_fleet_unhealthy_ratio_limit" in text["BotFleetOutage"]
