"""The names of the series: the rules for them, and that the served series are those declared."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from exporter import metrics
from exporter.exposition.self_metrics import SelfMetrics
from exporter.settings import Settings

FORBIDDEN_LABELS = {"type", "service", "env", "region", "cluster", "owner"}


def test_names_follow_prometheus() -> None:
    names = [family.name for family in metrics.ALL]
    assert len(names) == len(set(names))
    for family in metrics.ALL:
        assert family.name.startswith("bot_")
        assert family.name.endswith("_total") == (family.type == "counter")
        assert FORBIDDEN_LABELS.isdisjoint(family.labels)
        assert family.help.endswith(".")


def test_one_label_identifies_a_bot() -> None:
    assert all(family.labels[0] == "bot" for family in metrics.PER_BOT)


def test_the_exporters_own_series_are_those_declared_and_exist_at_zero() -> None:
    self_metrics = SelfMetrics(Settings(), "1.0")
    self_metrics.probe_counts.set_templates({"support"})
    families = list(text_string_to_metric_families(self_metrics.render().decode()))
    ours = {family.name: family for family in families if family.name.startswith("bot_")}
    declared = {
        family.name.removesuffix("_total"): family for family in metrics.ALL if family not in metrics.PER_BOT
    }
    assert ours.keys() == declared.keys()
    for name, family in declared.items():
        assert (ours[name].type, ours[name].documentation) == (family.type, family.help)
        assert ours[name].samples
        for sample in ours[name].samples:
            assert set(sample.labels) - {"le"} == set(family.labels)
    assert {"process_cpu_seconds", "python_info"} <= {family.name for family in families}


def test_a_templates_series_leave_with_its_last_bot() -> None:
    self_metrics = SelfMetrics(Settings(), "1.0")
    self_metrics.probe_counts.set_templates({"support", "manager"})
    self_metrics.probe_counts.set_templates({"manager"})
    text = self_metrics.render().decode()
    assert 'template="manager"' in text
    assert 'template="support"' not in text


def test_the_readme_documents_every_series() -> None:
    """The table in exporter/README.md says exactly what the code says."""
    readme = (Path(metrics.__file__).parent / "README.md").read_text()
    _, _, tail = readme.partition("<!-- metrics:")
    rows = [line for line in tail.splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{family.name}` | {family.type} | {', '.join(f'`{label}`' for label in family.labels) or '-'} "
        f"| {family.unit or '-'} | {family.help} |"
        for family in metrics.ALL
    ]
