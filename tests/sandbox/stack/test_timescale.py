"""The real alerts on a faster clock: durations are divided, addresses put in, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.durations import parse_duration
from sandbox.stack.timescale import (
    ALERTS,
    Addresses,
    Timescale,
    TimescaleError,
    render,
    rescale,
)

ADDRESSES = Addresses(
    jobs={
        "bot-exporter": "127.0.0.1:1",
        "bot-remediator": "127.0.0.1:2",
        "prometheus": "127.0.0.1:3",
        "alertmanager": "127.0.0.1:4",
    },
    alertmanager="127.0.0.1:4",
    webhook="127.0.0.1:2",
    telegram_api="http://127.0.0.1:5",
    token="bearer",
    telegram_token="1:x",
    telegram_chat=7,
)


@pytest.mark.parametrize("key", ["for", "scrape_interval"])
def test_what_is_no_duration_is_refused(key: str) -> None:
    with pytest.raises(TimescaleError, match='"5min" is no duration'):
        rescale({"groups": [{key: "5min"}]}, Timescale(60))


@pytest.mark.parametrize(
    ("expression", "faster"),
    [
        ("rate(x[5m])", "rate(x[5s])"),
        ("max_over_time(x[15m:1m])", "max_over_time(x[15s:5s])"),
        ("x offset 1h", "x offset 1m"),
        ("x offset -10m", "x offset -10s"),
        ("rate(x[2s])", "rate(x[2s])"),
        ('sum by (le) (x{rule="5m"}) > 300', 'sum by (le) (x{rule="5m"}) > 300'),
        ("job:errors:rate5m > 0", "job:errors:rate5m > 0"),
    ],
)
def test_ranges_and_offsets_of_an_expression_are_divided(expression: str, faster: str) -> None:
    assert Timescale(60).promql(expression) == faster


def test_a_floor_holds_but_lengthens_nothing_and_zero_stays_zero() -> None:
    scale = Timescale(60, wait_floor=0.5)
    assert [scale.wait(text) for text in ("0s", "200ms", "10s", "5m")] == ["0s", "200ms", "500ms", "5s"]


def test_a_factor_of_one_changes_nothing() -> None:
    rules = [yaml.safe_load(path.read_text()) for path in ALERTS.glob("rules-*.yml")]
    assert rules
    for rule in rules:
        assert durations(rescale(rule, Timescale(1))) == durations(rule)


def durations(node: Any) -> Any:
    """Return the document with its durations in seconds, so that 1m and 60s are the same."""
    if isinstance(node, dict):
        return {
            key: parse_duration(value) if key in ("for", "interval", "keep_firing_for") else durations(value)
            for key, value in node.items()
            if key != "expr"
        }
    return [durations(item) for item in node] if isinstance(node, list) else node


def test_every_rule_of_the_repository_is_rendered_and_only_times_differ(tmp_path: Path) -> None:
    render(tmp_path, Timescale(60), ADDRESSES)
    for path in ALERTS.glob("rules-*.yml"):
        real, rendered = (yaml.safe_load(p.read_text()) for p in (path, tmp_path / path.name))
        assert [names(group) for group in real["groups"]] == [names(group) for group in rendered["groups"]]


def names(group: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (rule.get("alert") or rule["record"], rule.get("labels"), rule.get("annotations"))
        for rule in group["rules"]
    ]


def test_addresses_of_this_machine_are_put_in(tmp_path: Path) -> None:
    render(tmp_path, Timescale(60), ADDRESSES)
    prometheus = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert jobs == {name: [address] for name, address in ADDRESSES.jobs.items()}
    alertmanager = yaml.safe_load((tmp_path / "alertmanager.yml").read_text())
    receivers = {receiver["name"]: receiver for receiver in alertmanager["receivers"]}
    webhook = receivers["remediator"]["webhook_configs"][0]
    assert webhook["url"] == "http://127.0.0.1:2/alerts"
    token = tmp_path / webhook["http_config"]["authorization"]["credentials_file"]
    assert token.read_text() == "bearer"
    assert token.stat().st_mode & 0o077 == 0
    assert alertmanager["global"]["telegram_api_url"] == "http://127.0.0.1:5"


def test_a_job_without_an_address_is_named(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("rule_files: [r.yml]\nscrape_configs: [{job_name: mystery}]\n")
    (tmp_path / "r.yml").write_text("groups: []\n")
    with pytest.raises(TimescaleError, match="mystery"):
        render(tmp_path / "out", Timescale(60), ADDRESSES, tmp_path)


def test_a_rule_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text("rule_files: [rules-*.yml]\nscrape_configs: []\n")
    with pytest.raises(TimescaleError, match="rule_files"):
        render(tmp_path / "out", Timescale(60), ADDRESSES, tmp_path)
