"""Rules as people meet them: valid, tested, documented, and safe to route on."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_parser import parse

from exporter.result import FAILURE_KINDS
from remediator.alerts.webhook import FIRST_TIER_LABEL
from remediator.model import TIERS
from remediator.recovery.symptoms import SYMPTOM_LABEL

Rule = dict[str, Any]

HERE = Path(__file__).parent
REQUIRED = {
    "BotHealthScoreLow",
    "BotHealthScoreCritical",
    "BotDown",
    "BotFleetOutage",
    "BotProbeStale",
    "BotExporterAbsent",
    "BotFailurePredicted",
    "BotHealthAnomalous",
    "BotLatencyHigh",
    "BotFlapping",
    "BotMissing",
    "BotContextNearlyFull",
    "BotErrorBudgetBurnFast",
    "BotErrorBudgetBurnSlow",
    "BotExporterSlow",
    "BotExporterShardMissing",
    "BotRemediationLooping",
    "BotRemediationUnacknowledged",
    "BotRemediationFailed",
    "BotRemediationEscalated",
    "BotRemediatorDown",
    "BotDeaf",
    "BotQueueStalled",
    "BotTokenRefused",
    "BotMute",
    "BotModelGone",
    "BotKeyRefused",
    "BotProviderFailing",
    "BotStuck",
    "BotDependencyDown",
    "Watchdog",
}
RECOVERING = {
    "BotHealthScoreCritical": "down",
    "BotDown": "down",
    "BotDeaf": "deaf",
    "BotQueueStalled": "deaf",
    "BotMute": "mute",
    "BotStuck": "stuck",
}
"""Alerts that the remediator acts on, and the symptom that it proves the cure by."""


def test_promtool_accepts_configuration_and_rules(promtool: Any, alerts: Path) -> None:
    assert "SUCCESS" in promtool("check", "config", alerts / "prometheus.yml")


@pytest.mark.parametrize("file", sorted(HERE.glob("*.yaml")), ids=lambda path: path.stem)
def test_rules_fire_when_they_should_and_only_then(promtool: Any, file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", file.name, cwd=HERE)


def test_every_rule_has_a_unit_test(rules: list[Rule]) -> None:
    text = "".join(path.read_text() for path in HERE.glob("*.yaml"))
    tested = set(re.findall(r"alertname: (\w+)", text)) | set(re.findall(r'alertname="(\w+)"', text))
    recorded = set(re.findall(r"expr: \"?(?:round\()?(?:30 \* )?([a-z_0-9]+:[a-z_0-9:]+)", text))
    assert {rule["alert"] for rule in rules if "alert" in rule} == tested
    assert {rule["record"] for rule in rules if "record" in rule} - recorded == set()


def test_the_promised_alerts_exist(alerting: list[Rule]) -> None:
    assert {rule["alert"] for rule in alerting} >= REQUIRED


def test_alerts_are_named_for_a_symptom_and_say_all_a_person_needs(alerting: list[Rule]) -> None:
    for rule in alerting:
        name, annotations = rule["alert"], rule["annotations"]
        assert re.fullmatch(r"Bot([A-Z][a-z]+)+|Watchdog", name)
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"}, name
        assert len(annotations["summary"]) < 100, name
        assert "for" in rule, f"{name} should say how patient it is, 0s included"


def test_no_label_of_an_alert_has_a_value_in_it(alerting: list[Rule]) -> None:
    """A label that changes is a new fingerprint, and to the remediator a new episode."""
    for rule in alerting:
        assert not [value for value in rule["labels"].values() if "{{" in value], rule["alert"]


def test_every_alert_has_its_heading_in_the_runbook_and_no_heading_is_left_over(
    alerting: list[Rule], alerts: Path
) -> None:
    headings = re.findall(r"^### (\w+)$", (alerts / "README.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(rule["alert"] for rule in alerting)


def test_runbook_sections_say_what_it_means_what_is_done_and_what_to_do(alerts: Path) -> None:
    sections = re.split(r"^##+ ", (alerts / "README.md").read_text(), flags=re.MULTILINE)
    for section in sections:
        if re.match(r"(Bot\w+|Watchdog)\n", section):
            text = " ".join(section.split())
            for heading in ("**Means:**", "**The remediator**", "**You:**"):
                heading = heading if heading in text else heading.lower()
                assert heading in text, f"{heading} is missing from {section.splitlines()[0]}"


def test_links_of_the_runbook_lead_to_headings(alerts: Path) -> None:
    text = (alerts / "README.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_runbook_urls_are_derived_from_the_alerts_name(alerting: list[Rule]) -> None:
    for rule in alerting:
        base, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert base == "https://bot-orchestrator.example.org/alerts/README.md"
        assert anchor == rule["alert"].lower()


def test_dashboard_urls_lead_to_a_generated_dashboard(alerting: list[Rule]) -> None:
    generated = Path(__file__).parents[2] / "dashboards" / "generated"
    uids = {yaml.safe_load(path.read_text())["uid"] for path in generated.glob("*.json")}
    for rule in alerting:
        url = rule["annotations"]["dashboard_url"]
        match = re.fullmatch(r"http://127\.0\.0\.1:3000/d/([\w-]+)(\?var-bot=\{\{ \$labels\.bot \}\})?", url)
        assert match is not None, url
        assert match[1] in uids, url


def test_only_alerts_of_a_bot_are_recovered_and_they_have_no_patience_of_their_own(
    alerting: list[Rule],
) -> None:
    """A bot that is cured and ill again must be a new episode: nothing may hold the old alert open."""
    recovering = [rule for rule in alerting if rule["labels"].get("remediation") == "auto"]
    symptoms = {rule["alert"]: rule["labels"].get(SYMPTOM_LABEL, "down") for rule in recovering}
    assert symptoms == RECOVERING
    for rule in recovering:
        assert rule["for"] == "0s"
        assert "keep_firing_for" not in rule
        assert "_over_time" not in rule["expr"]
        assert re.search(r"by \(bot\b|bot:bot_\w+", rule["expr"])
        assert rule["labels"].get(FIRST_TIER_LABEL, TIERS[0]) in TIERS


def test_no_kind_of_failed_turn_is_silent_and_the_bot_is_restarted_for_its_own_alone(
    alerting: list[Rule],
) -> None:
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for rule in alerting:
        told = re.search(r"bot:bot_mute:failures\{kind=~?\"([\w|]+)\"\}", rule["expr"])
        if told is not None:
            kinds["remediation" in rule["labels"]] += told[1].split("|")
    assert kinds[True] == ["other"]
    assert sorted(kinds[True] + kinds[False]) == sorted(FAILURE_KINDS)


def test_every_alert_that_recovers_is_known_to_who_asks_whether_it_was(alerting: list[Rule]) -> None:
    (rule,) = (rule for rule in alerting if rule["alert"] == "BotRemediationUnacknowledged")
    assert all(re.search(rf"\b{name}\b", rule["expr"]) for name in RECOVERING)


def test_the_outage_is_known_at_once(alerting: list[Rule]) -> None:
    (outage,) = (rule for rule in alerting if rule["alert"] == "BotFleetOutage")
    assert outage["for"] == "0s"


def test_expressions_hold_on_prometheus_2_and_3(rules: list[Rule]) -> None:
    unportable = r"holt_winters|double_exponential_smoothing|mad_over_time|limitk|limit_ratio|\binfo\("
    for rule in rules:
        parse(rule["expr"])
        assert not re.search(unportable, rule["expr"]), rule


def test_recording_rules_are_named_level_metric_operations(rules: list[Rule]) -> None:
    for rule in rules:
        if "record" in rule:
            assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"])
