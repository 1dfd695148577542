"""The target format: what is taken, and how a fault is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.targets import Target, merge, parse_groups


def group(address: object = "10.0.0.5:18790", **labels: object) -> dict[str, object]:
    return {"targets": [address], "labels": {"bot": "forge"} | labels}


def test_a_target_has_the_formats_defaults() -> None:
    (target,) = parse_groups([group()], "bots.yml").targets
    assert target == Target("forge", "10.0.0.5:18790")
    assert (target.health_url, target.mesh_url) == (
        "http://10.0.0.5:18790/health",
        "http://10.0.0.5:18790/mesh",
    )


def test_every_field_is_read() -> None:
    labels = {
        "template": "tool-builder",
        "environment": "production",
        "instance_id": "i-0abc123",
        "team": "core",
        "__scheme__": "https",
        "__health_path__": "/live?deep=1",
        "__mesh_path__": "http://10.0.0.9:9000/peers",
        "__probe_interval__": "5m",
        "__meta_ec2_ami": "ignored",
        "__scrape_interval__": "15s",
    }
    (target,) = parse_groups([group("[::1]:443", **labels)], "bots.yml").targets
    assert target.health_url == "https://[::1]:443/live?deep=1"
    assert target.mesh_url == "http://10.0.0.9:9000/peers"
    assert (target.template, target.environment) == ("tool-builder", "production")
    assert (target.instance_id, target.interval) == ("i-0abc123", 300)
    assert target.labels == {"team": "core"}


@pytest.mark.parametrize(
    "document",
    [
        {"targets": ["a:1"], "labels": {"bot": "b", "app.kubernetes.io/name": "forge", "größe": "L"}},
        {"targets": ["host.:18790"], "labels": {"bot": "b"}},
        {"targets": ["_forge_1:18790"], "labels": {"bot": "b"}},
        {"targets": ["a:1"], "labels": {"bot": "b", "template": None, "__scheme__": "", "__mesh_path__": ""}},
        {"targets": ["a:1"], "labels": {"bot": "b", "__address__": "x", "job": "y", "instance": "z"}},
        {
            "targets": ["a:1"],
            "labels": {"bot": "b", "__name__": "x", "__sample_limit__": "5", "__ours__": "y"},
        },
        {"targets": ["a:1"], "labels": {"bot": "b", "__meta_kubernetes_annotation_long": "x" * 5000}},
        {"targets": ["a:1"], "labels": {"bot": "b", "__metrics_path__": "/m", "__param_x": "y"}},
    ],
)
def test_what_prometheus_takes_is_taken(document: dict[str, object]) -> None:
    parsed = parse_groups([document], "bots.yml")
    assert parsed.problems == ()
    (target,) = parsed.targets
    assert (target.bot, target.scheme, target.mesh_path) == ("b", "http", "/mesh")


@pytest.mark.parametrize("group", [{"targets": None}, {"targets": [], "labels": None}])
def test_no_targets_are_no_fault(group: dict[str, object]) -> None:
    assert parse_groups([group], "bots.yml").problems == ()


def test_a_target_may_promise_json() -> None:
    (target,) = parse_groups([group(__expect__="json")], "bots.yml").targets
    assert target.expects_json


@pytest.mark.parametrize("value", ["http://user:hunter2@x/y", "live?token=hunter2"])
def test_a_refusal_names_no_secret(value: str) -> None:
    labels = {"__mesh_path__": value}
    (problem,) = parse_groups([group(**labels)], "bots.yml").problems
    assert "hunter2" not in str(problem)
    assert "***" in str(problem)


def test_a_group_without_targets_is_no_bot_and_no_fault() -> None:
    parsed = parse_groups([{"targets": [], "labels": {}}], "bots.yml")
    assert (parsed.targets, parsed.problems) == ((), ())


@pytest.mark.parametrize(
    ("bad", "location", "reason"),
    [
        (7, "group 1", "is a int"),
        ({"targets": ["a:1"], "label": {}}, "group 1: key label", "not known"),
        ({"labels": {"bot": "b"}}, "group 1: targets", "not a list"),
        ({"targets": ["a:1", "b:1"], "labels": {"bot": "b"}}, "group 1: targets", "2 addresses"),
        ({"targets": ["a:1"]}, "group 1: label bot", "missing"),
        ({"targets": ["a:1"], "labels": []}, "group 1: labels", "is a list"),
        (group(bot="Forge_1"), "group 1: label bot", "no bot name"),
        (group(bot="-x"), "group 1: label bot", "no bot name"),
        (group(bot="b" * 64), "group 1: label bot", "no bot name"),
        (group(bot="b", template=3), "group 1: label template", "is a int"),
        (group(bot="b", **{"": "x"}), "group 1: label ''", "no label name"),
        (group(bot="b", **{"\ud800": "x"}), "group 1: label '\\ud800'", "no label name"),
        (group(bot="b", __health_path__="/" + "x" * 600), "group 1: label __health_path__", "601 characters"),
        (group(bot="b", __expect__="xml"), "group 1: label __expect__", "xml"),
        (group(bot="b", __schema__="https"), "group 1: label __schema__", "not known"),
        (group(bot="b", __mesh__="/x"), "group 1: label __mesh__", "not known"),
        (group(bot="b", template="x" * 600), "group 1: label template", "600 characters"),
        (group(bot="b", template="\ud800"), "group 1: label template", "Unicode"),
        (group(bot="b", __scheme__="ftp"), "group 1: label __scheme__", "ftp"),
        (group(bot="b", __health_path__="health"), "group 1: label __health_path__", "no path"),
        (group(bot="b", __health_path__="/a b"), "group 1: label __health_path__", "no path"),
        (group(bot="b", __health_path__="http://x/y"), "group 1: label __health_path__", "no path"),
        (group(bot="b", __mesh_path__="ftp://x/y"), "group 1: label __mesh_path__", "no path"),
        (group(bot="b", __health_path__="none"), "group 1: label __health_path__", "no path"),
        (group(bot="b", __mesh_path__="http://u:p@x/y"), "group 1: label __mesh_path__", "no path"),
        (group(bot="b", __mesh_path__="http://x:99999/y"), "group 1: label __mesh_path__", "no path"),
        (group(bot="b", __mesh_path__="http://x/y\r\nEvil: 1"), "group 1: label __mesh_path__", "no path"),
        (group(bot="b", __heath_path__="/x"), "group 1: label __heath_path__", "not known"),
        (group(bot="b", __probe_interval__="often"), "group 1: label __probe_interval__", "no duration"),
        (group(bot="b", __probe_interval__="1ms"), "group 1: label __probe_interval__", "too short"),
        (group("10.0.0.5", bot="b"), "group 1: targets", "no address"),
        (group("10.0.0.5:0", bot="b"), "group 1: targets", "no address"),
        (group("10.0.0.5:65536", bot="b"), "group 1: targets", "no address"),
        (group("http://10.0.0.5:80", bot="b"), "group 1: targets", "no address"),
        (group("a:1/x", bot="b"), "group 1: targets", "no address"),
        (group(5, bot="b"), "group 1: targets", "no address"),
        (group(bot="forge"), "group 1: label bot", "already at bots.yml: group 0"),
    ],
)
def test_a_bad_target_is_named_and_the_others_are_kept(bad: object, location: str, reason: str) -> None:
    parsed = parse_groups([group(), bad, group(bot="last")], "bots.yml")
    assert [target.bot for target in parsed.targets] == ["forge", "last"]
    (problem,) = parsed.problems
    assert problem.location == f"bots.yml: {location}"
    assert reason in problem.reason
    assert problem.remedy


@pytest.mark.parametrize("document", [None, {}, "text", 5])
def test_a_document_that_is_no_list_is_refused_with_the_way_to_say_no_bots(document: object) -> None:
    (problem,) = parse_groups(document, "bots.yml").problems
    assert problem.location == "bots.yml"
    assert "[] means no bots" in problem.remedy


def test_a_bot_in_two_sources_is_kept_where_it_came_first_and_both_places_are_named() -> None:
    first, second = (parse_groups([group(f"10.0.0.{n}:1")], f"{n}.yml") for n in (1, 2))
    merged = merge([first, second])
    assert [target.address for target in merged.targets] == ["10.0.0.1:1"]
    (problem,) = merged.problems
    assert problem.location == "2.yml: group 0: label bot"
    assert "1.yml: group 0" in problem.reason


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["targets", "labels"]), inner)
    ),
)


@given(json_values)
def test_any_document_gives_targets_or_problems_and_never_an_exception(document: object) -> None:
    parsed = parse_groups(document, "bots.yml")
    assert len(parsed.targets) == len(parsed.groups)
