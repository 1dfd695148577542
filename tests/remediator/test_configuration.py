"""A bot's whole configuration: canonical, hashed, compared, and warned of where it is likely a mistake."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import templates
from remediator.configuration import applied, canonical, diff, hashed, patched, readable, render, warnings
from templates import OverrideError

LOADED = templates.load()
KINDS = st.sampled_from(LOADED.names)
ENVIRONMENTS = st.sampled_from(templates.ENVIRONMENTS)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab.", max_size=3)
NAMES = st.text("abc_", min_size=1, max_size=3)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=8,
)
CONFIGS = st.dictionaries(NAMES, VALUES, max_size=5)
OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["anthropic/claude-sonnet-4-20250514", "openai/gpt-5"]),
        "heartbeat": st.sampled_from(["5m", "1h"]),
        "storage": st.sampled_from(["20GB", "40GB"]),
        "capabilities": st.lists(st.sampled_from(["faq", "coding"]), min_size=1, max_size=3),
        "probe": st.fixed_dictionaries(
            {}, optional={"port": st.integers(1, 65535), "mesh_path": st.just("/ready")}
        ),
    },
)


def reversed_(value: Any) -> Any:
    """The same content with every mapping written in the other order."""
    if isinstance(value, dict):
        return {key: reversed_(value[key]) for key in reversed(value)}
    return [reversed_(item) for item in value] if isinstance(value, list) else value


def support(**changes: Any) -> dict[str, Any]:
    return render("forge", "production", LOADED.get("support", "production"), changes)[0]


@given(KINDS, ENVIRONMENTS, OVERRIDES)
def test_a_rendering_is_canonical_whatever_the_order_of_what_it_was_made_of(
    kind: str, environment: str, overrides: dict[str, Any]
) -> None:
    template = LOADED.get(kind, environment)
    config, sha = render("forge", environment, template, overrides)
    assert render("forge", environment, template, reversed_(overrides)) == (config, sha)
    assert hashed(reversed_(config)) == sha
    assert len(sha) == 16


@given(KINDS, ENVIRONMENTS, OVERRIDES)
def test_an_override_changes_what_it_names_and_nothing_else(
    kind: str, environment: str, overrides: dict[str, Any]
) -> None:
    template = LOADED.get(kind, environment)
    plain, plain_sha = render("forge", environment, template)
    config, sha = render("forge", environment, template, overrides)
    assert {change["path"].partition(".")[0] for change in diff(plain, config)} <= set(overrides)
    assert (sha == plain_sha) == (config == plain), "the hash tells exactly whether the content differs"


@given(CONFIGS, CONFIGS)
def test_a_hash_tells_contents_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (canonical(one) == canonical(other)) == (hashed(one) == hashed(other))


@given(CONFIGS, CONFIGS)
def test_a_diff_applied_to_the_one_gives_the_other(one: dict[str, Any], other: dict[str, Any]) -> None:
    changes = diff(one, other)
    assert canonical(applied(one, changes)) == canonical(other)
    assert (changes == []) == (canonical(one) == canonical(other))
    assert [change["path"] for change in changes] == [change["path"] for change in diff(other, one)]


@given(CONFIGS, st.dictionaries(NAMES, VALUES, max_size=3))
def test_a_patch_does_the_same_twice_as_once(overrides: dict[str, Any], patch: dict[str, Any]) -> None:
    once = patched(overrides, patch)
    assert patched(once, patch) == once


def test_a_patch_merges_takes_back_and_leaves_no_husk() -> None:
    base = {"heartbeat": "1h", "probe": {"port": 9, "mesh_path": "/ready"}}
    assert patched(base, {"heartbeat": None, "model": "openai/gpt-5", "probe": {"port": None}}) == {
        "model": "openai/gpt-5",
        "probe": {"mesh_path": "/ready"},
    }
    assert patched(base, {"probe": {"port": None, "mesh_path": None}}) == {"heartbeat": "1h"}
    assert base == {"heartbeat": "1h", "probe": {"port": 9, "mesh_path": "/ready"}}


def test_the_hash_of_a_configuration_stays_what_it_was_in_earlier_releases() -> None:
    """A changed hash would look like a changed configuration of every bot there is."""
    template = templates.BotTemplate(
        name="support",
        instance_type="t3.micro",
        model="anthropic/claude-3-5-haiku-latest",
        heartbeat="20m",
        memory="1GB",
        storage="10GB",
        cooldown="60s",
        capabilities=["faq"],
    )
    assert render("forge", "production", template)[1] == "0f1717b8c8190492"


def test_a_diff_reads_like_one() -> None:
    before = {"heartbeat": "20m", "gone": 1, "probe": {"port": 1}, "capabilities": ["faq"]}
    after = {"heartbeat": "30m", "probe": {"port": 2}, "capabilities": [], "new": {"a": None}}
    assert readable(diff(before, after)) == (
        '~ capabilities: ["faq"] → []\n'
        "- gone: 1\n"
        "~ heartbeat: 20m → 30m\n"
        '+ new: {"a": null}\n'
        "~ probe.port: 1 → 2\n"
    )


@pytest.mark.parametrize(
    ("overrides", "field", "problem"),
    [
        ({"telegramToken": "42:AAF-planted"}, "overrides.telegramToken", "is no field of a template"),
        ({"name": "42:AAF-planted"}, "overrides.name", "belongs to the template"),
        ({"model": "42:AAF-planted"}, "overrides.model", "must look like anthropic/"),
        ({"heartbeat": "42:AAF-planted"}, "overrides.heartbeat", "must look like 30m"),
        ({"heartbeat": 30}, "overrides.heartbeat", "Input should be a valid string"),
        ({"instance_type": "42:AAF-planted"}, "overrides.instance_type", "use one of t3.micro"),
        ({"memory": "2GB"}, "overrides.memory", "is more than a t3.micro has (1GB)"),
        (
            {"compaction": "42:AAF-planted"},
            "overrides.compaction",
            "'safeguard' or 'default'",
        ),
        ({"capabilities": ["42:AAF-planted"]}, "overrides.capabilities.0", "must look like customer-support"),
        ({"capabilities": []}, "overrides.capabilities", "at least 1 item"),
        ({"probe": "42:AAF-planted"}, "overrides.probe", "valid dictionary"),
        ({"probe": {"port": "18790"}}, "overrides.probe.port", "valid integer"),
        ({"probe": {"port": 0}}, "overrides.probe.port", "greater than or equal to 1"),
        ({"probe": {"mesh_path": "42:AAF-planted"}}, "overrides.probe.mesh_path", "absolute path"),
        ({"probe": {"secret": "42:AAF-planted"}}, "overrides.probe.secret", "not permitted"),
    ],
)
def test_a_wrong_override_is_named_with_a_remedy_and_without_its_value(
    overrides: dict[str, Any], field: str, problem: str
) -> None:
    with pytest.raises(OverrideError) as caught:
        support(**overrides)
    assert caught.value.field == field
    assert problem in caught.value.problem
    assert caught.value.remedy
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "about"),
    [
        ({}, ["memory"]),
        ({"instance_type": "t3.small", "memory": "1GB"}, ["memory"]),
        ({"instance_type": "t3.small", "memory": "2GB"}, []),
        ({"model": "anthropic/claude-sonet-4"}, ["memory", "model"]),
        ({"model": "acme/wonder-1"}, ["memory", "model"]),
        ({"heartbeat": "59s"}, ["memory", "heartbeat", "heartbeat"]),
        ({"heartbeat": "60s"}, ["memory"]),
        ({"heartbeat": "2m", "cooldown": "1h"}, ["memory", "heartbeat"]),
        ({"storage": "7GB"}, ["memory", "storage"]),
        ({"storage": "8GB"}, ["memory", "storage"]),
        ({"storage": "10GB"}, ["memory"]),
        ({"probe": {"port": 80}}, ["memory", "probe.port"]),
    ],
)
def test_what_is_likely_a_mistake_is_said_by_field(overrides: dict[str, Any], about: list[str]) -> None:
    assert [warning.partition(":")[0] for warning in warnings(support(**overrides))] == about


def test_the_warning_about_memory_has_the_figures() -> None:
    (warning,) = warnings(support())
    assert "806 MB idle" in warning
    assert "1 GB on a t3.micro leave 218 MB" in warning


@pytest.mark.parametrize("environment", templates.ENVIRONMENTS)
@pytest.mark.parametrize("kind", LOADED.names)
def test_what_is_bundled_warns_of_nothing_but_the_memory_of_the_smallest(kind: str, environment: str) -> None:
    config, _ = render("forge", environment, LOADED.get(kind, environment))
    assert [one.partition(":")[0] for one in warnings(config)] == (["memory"] if kind == "support" else [])
