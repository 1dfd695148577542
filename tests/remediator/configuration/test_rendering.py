"""A bot's whole configuration: canonical, hashed, compared, and warned of where it is likely a mistake."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import templates
from remediator.configuration.file_changes import counted
from remediator.configuration.rendering import (
    applied,
    canonical,
    diff,
    hashed,
    merge_patch,
    readable,
    render,
    rendered,
    warnings,
)
from remediator.errors import Refused
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
        "allow_from": st.lists(st.integers(1, 1 << 50), max_size=2),
        "dm_policy": st.sampled_from(["open", "pairing", "disabled"]),
        "fallbacks": st.lists(st.sampled_from(["openai/gpt-5", "anthropic/claude-opus-5"]), max_size=2),
        "capabilities": st.lists(st.sampled_from(["faq", "coding"]), min_size=1, max_size=3),
        "probe": st.fixed_dictionaries(
            {}, optional={"port": st.integers(1, 65535), "mesh_path": st.just("/ready")}
        ),
    },
)


def reversed_(value: Any) -> Any:
    """Return the same content with every mapping written in the other order."""
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
def test_a_hash_tells_contents_apart(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert (canonical(before) == canonical(after)) == (hashed(before) == hashed(after))


@given(CONFIGS, CONFIGS)
def test_a_diff_applied_to_the_one_gives_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    changes = diff(before, after)
    assert canonical(applied(before, changes)) == canonical(after)
    assert (changes == []) == (canonical(before) == canonical(after))
    assert [change["path"] for change in changes] == [change["path"] for change in diff(after, before)]


@given(CONFIGS, st.dictionaries(NAMES, VALUES, max_size=3))
def test_a_patch_does_the_same_twice_as_once(overrides: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge_patch(overrides, patch)
    assert merge_patch(once, patch) == once


def test_a_patch_merges_takes_back_and_leaves_no_husk() -> None:
    base = {"heartbeat": "1h", "probe": {"port": 9, "mesh_path": "/ready"}}
    assert merge_patch(base, {"heartbeat": None, "model": "openai/gpt-5", "probe": {"port": None}}) == {
        "model": "openai/gpt-5",
        "probe": {"mesh_path": "/ready"},
    }
    assert merge_patch(base, {"probe": {"port": None, "mesh_path": None}}) == {"heartbeat": "1h"}
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


def test_what_a_bot_does_not_say_of_who_may_talk_to_it_is_not_in_its_configuration() -> None:
    """The same for every field that is younger than bots are: see the test before."""
    plain, said = support(), support(allow_from=[5], fallbacks=["openai/gpt-5"], groups=[])
    assert diff(plain, said) == [
        {"path": "allow_from", "to": [5]},
        {"path": "fallbacks", "to": ["openai/gpt-5"]},
    ]


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
        ({"instance_type": "42:AAF-planted"}, "overrides.instance_type", "use a size of t2, t3"),
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
        ({"allow_from": ["42:AAF-planted"]}, "overrides.allow_from.0", "valid integer"),
        ({"allow_from": [-7]}, "overrides.allow_from.0", "belongs into groups"),
        ({"fallbacks": ["42:AAF-planted"]}, "overrides.fallbacks.0", "must look like anthropic/"),
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
        ({"fallbacks": ["openai/gpt-5", "acme/wonder-1"]}, ["memory", "fallbacks.1"]),
        ({"fallbacks": ["anthropic/claude-opus-latest"]}, ["memory", "fallbacks.0"]),
    ],
)
def test_what_is_likely_a_mistake_is_said_by_field(overrides: dict[str, Any], about: list[str]) -> None:
    config = support(allow_from=[123456789], **overrides)
    assert [warning.partition(":")[0] for warning in warnings(config)] == about


def test_the_warning_about_memory_has_the_figures() -> None:
    (warning,) = warnings(support(allow_from=[123456789]))
    assert "806 MB idle" in warning
    assert "1700 in a turn, so with 1 GB on a t3.micro it works from swap" in warning
    assert "a t3.small with memory 2GB" in warning


@pytest.mark.parametrize(("kind", "roomier"), [("t4g.micro", "a t4g.small"), ("t2.nano", "a t2.small")])
def test_the_warning_about_memory_names_a_type_of_the_same_family(kind: str, roomier: str) -> None:
    (warning,) = warnings(support(instance_type=kind, allow_from=[123456789]))
    assert f"{roomier} with memory 2GB" in warning


def test_a_model_that_neither_the_catalogue_nor_the_price_list_knows_is_a_warning() -> None:
    config = support(
        instance_type="t3.small", memory="2GB", model="anthropic/claude-sonet-4", allow_from=[123456789]
    )
    (warning,) = warnings(config)
    assert warning.startswith("model: neither the catalogue of OpenClaw ")


def named(field: str, model: str) -> dict[str, Any]:
    """Return the overrides that have the model in a field: `model`, or a place among the fallbacks."""
    _, _, place = field.partition(".")
    return {"fallbacks": ["openai/gpt-5"] * int(place) + [model]} if place else {field: model}


@pytest.mark.parametrize("field", ["model", "fallbacks.0", "fallbacks.2"])
@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        ("google/gemini-1.5-flash", "use google/gemini-2.5-flash"),
        ("azure-openai-responses/gpt-5.3-codex-spark", "use another of azure-openai-responses"),
    ],
)
def test_a_retired_model_without_an_alias_is_refused_wherever_it_is_named(
    field: str, model: str, remedy: str
) -> None:
    """And warned of where it is in a configuration that was kept before it retired."""
    overrides = named(field, model)
    with pytest.raises(Refused, match=f"{model} is retired") as refused:
        rendered("forge", "production", LOADED.get("support", "production"), overrides)
    assert (refused.value.kind, refused.value.field) == ("invalid", f"overrides.{field}")
    assert refused.value.remedy == remedy
    assert any(
        warning.startswith(f"{field}: {model} is retired") for warning in warnings(support(**overrides))
    )


@pytest.mark.parametrize("field", ["model", "fallbacks.0", "fallbacks.2"])
@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("anthropic/claude-3-5-haiku-latest", "the bot is run with anthropic/claude-haiku-4-5"),
        ("acme/wonder-1", "nor genai-prices knows acme/wonder-1"),
    ],
)
def test_a_model_that_is_replaced_or_not_known_is_warned_of_wherever_it_is_named(
    field: str, model: str, says: str
) -> None:
    config, _ = rendered("forge", "production", LOADED.get("support", "production"), named(field, model))
    (warning,) = [warning for warning in warnings(config) if model in warning]
    assert warning.startswith(f"{field}: ")
    assert says in warning


@pytest.mark.parametrize("environment", templates.ENVIRONMENTS)
@pytest.mark.parametrize("kind", LOADED.names)
def test_what_is_bundled_warns_of_the_memory_of_the_smallest_and_that_it_knows_nobody(
    kind: str, environment: str
) -> None:
    config, _ = render("forge", environment, LOADED.get(kind, environment))
    assert [warning.partition(":")[0] for warning in warnings(config)] == (
        ["memory", "dm_policy"] if kind == "support" else ["dm_policy"]
    )


def with_files(**names: str) -> dict[str, Any]:
    paths = {f"workspace/{name}.md": sha256 for name, sha256 in names.items()}
    return {"heartbeat": "1h", "files": {"sha256": "".join(names.values()), "names": paths}}


def test_a_diff_names_files_whose_paths_have_dots() -> None:
    before, after = with_files(SOUL="0" * 64, AGENTS="1" * 64), with_files(SOUL="2" * 64, TOOLS="3" * 64)
    changes = diff(before, after)
    assert applied(before, changes) == after
    assert applied(after, diff(after, before)) == before
    assert readable(changes[:-1]) == (
        "- files.workspace/AGENTS.md: 111111111111\n"
        "~ files.workspace/SOUL.md: 000000000000 → 222222222222\n"
        "+ files.workspace/TOOLS.md: 333333333333\n"
    )
    assert changes[-1]["path"] == "files.sha256"


def test_files_where_there_were_none_are_named_in_a_line() -> None:
    before, after = {"heartbeat": "1h"}, with_files(SOUL="0" * 64, TOOLS="3" * 64)
    assert readable(diff(before, after)) == "+ files: workspace/SOUL.md, workspace/TOOLS.md\n"
    assert applied(before, diff(before, after)) == after


def test_lines_of_text_files_are_counted_and_nothing_else_is() -> None:
    before, after = with_files(SOUL="0" * 64, BIN="1" * 64), with_files(SOUL="2" * 64, BIN="3" * 64)
    changes = [*diff(before, after), {"path": "heartbeat", "from": "1h", "to": "2h"}]
    old = {"workspace/SOUL.md": b"a\nb\nb\nc\n", "workspace/BIN.md": b"\xff"}
    new = {"workspace/SOUL.md": b"c\na\nb\nd\n", "workspace/BIN.md": b"\xfe"}
    text = readable(counted(changes, old, new))
    assert "~ files.workspace/SOUL.md: +1 -1\n" in text
    assert "~ files.workspace/BIN.md: 111111111111 → 333333333333\n" in text
    assert text.endswith("~ heartbeat: 1h → 2h\n")
