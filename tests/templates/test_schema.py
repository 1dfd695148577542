from pathlib import Path
from typing import Any

import pytest
import yaml

import templates
from exporter.targets import parse_groups
from templates.instance_types import INSTANCE_TYPES
from templates.models import is_known_model, retired_for
from templates.schema import LONGEST_PATH

SEED = {
    "tool-builder": ("t3.medium", "anthropic/claude-sonnet-5", "30m", "4GB", "20GB", "60s"),
    "designer": ("t3.small", "anthropic/claude-sonnet-5", "35m", "2GB", "15GB", "60s"),
    "support": ("t3.micro", "anthropic/claude-haiku-4-5", "20m", "1GB", "10GB", "60s"),
    "manager": ("t3.large", "anthropic/claude-opus-5", "45m", "8GB", "30GB", "90s"),
}
GOOD: dict[str, Any] = {
    "name": "support",
    "instance_type": "t3.micro",
    "model": "anthropic/claude-haiku-4-5",
    "heartbeat": "20m",
    "memory": "1GB",
    "storage": "10GB",
    "cooldown": "60s",
    "capabilities": ["faq"],
}


def write(folder: Path, **changes: Any) -> Path:
    data = {key: value for key, value in (GOOD | changes).items() if value is not ...}
    (folder / "support.yaml").write_text(yaml.safe_dump(data))
    return folder


@pytest.mark.parametrize("name", SEED)
def test_the_four_types_of_the_seed_are_bundled_with_its_figures(name: str) -> None:
    template = templates.load().get(name, "production")
    figures = (
        template.instance_type,
        template.model,
        template.heartbeat,
        template.memory,
        template.storage,
        template.cooldown,
    )
    assert figures == SEED[name]
    assert template.compaction == "safeguard"
    assert (template.probe.port, template.probe.health_path, template.probe.mesh_path) == (
        18790,
        "/health",
        "/mesh",
    )


def test_exactly_the_four_types_are_bundled() -> None:
    assert templates.load().names == sorted(SEED)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"heartbeat": "soon"}, "heartbeat"),
        ({"heartbeat": 30}, "heartbeat"),
        ({"storage": "10"}, "storage"),
        ({"storage": "9" * 5000 + "GB"}, "storage"),
        ({"storage": "65537GB"}, "storage"),
        ({"storage": "\N{ARABIC-INDIC DIGIT THREE}0GB"}, "storage"),
        ({"memory": "9" * 5000 + "GB"}, "memory"),
        ({"heartbeat": "9" * 5000 + "m"}, "heartbeat"),
        ({"cooldown": "8785h"}, "cooldown"),
        ({"description": "x" * 501}, "description"),
        ({"probe": {"health_path": "/" + "x" * 255}}, "probe.health_path"),
        ({"probe": {"mesh_path": "/\x00"}}, "probe.mesh_path"),
        ({"probe": {"mesh_path": "/\N{SNOWMAN}"}}, "probe.mesh_path"),
        ({"model": "haiku"}, "model"),
        ({"model": ...}, "model"),
        ({"capabilities": []}, "capabilities"),
        ({"colour": "red"}, "colour"),
        ({"probe": {"port": 0}}, "probe.port"),
        ({"probe": {"port": "18790"}}, "probe.port"),
        ({"probe": {"health_path": "health"}}, "probe.health_path"),
        ({"instance_type": "t3.huge"}, "instance_type"),
        ({"memory": "2GB"}, "memory"),
        ({"name": "helper"}, "name"),
        ({"dm_policy": "everybody"}, "dm_policy"),
        ({"allow_from": [-1001234567890]}, "allow_from.0"),
        ({"allow_from": ["123456789"]}, "allow_from.0"),
        ({"allow_from": ["@jo"]}, "allow_from.0"),
        ({"allow_from": [True]}, "allow_from.0"),
        ({"allow_from": [1 << 52]}, "allow_from.0"),
        ({"group_allow_from": [0]}, "group_allow_from.0"),
        ({"groups": [123456789]}, "groups.0"),
        ({"group_policy": "pairing"}, "group_policy"),
        ({"fallbacks": ["haiku"]}, "fallbacks.0"),
        ({"environments": {"staging": {"allow_from": 7}}}, "allow_from"),
        ({"environments": {"qa": {}}}, "environments.qa"),
        ({"environments": {"staging": {"heartbeat": "x"}}}, "heartbeat"),
        ({"environments": {"staging": {"name": "other"}}}, "environments.staging.name"),
        ({"environments": ["staging"]}, "environments"),
    ],
)
def test_a_wrong_file_is_named_with_field_and_reason(
    tmp_path: Path, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(templates.TemplateError) as caught:
        templates.load(write(tmp_path, **changes))
    assert caught.value.file == "support.yaml"
    assert field in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "just words", "- a\n- b", ""])
def test_a_file_that_is_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(templates.TemplateError, match=r"odd\.yaml"):
        templates.load(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(templates.TemplateError, match="holds no"):
        templates.load(tmp_path)


def test_the_largest_values_are_taken(tmp_path: Path) -> None:
    """By the exporter, too, whose list a bot of such a template stands in."""
    path = "/" + "x" * (LONGEST_PATH - 1)
    sizes = {"storage": "65536GB", "heartbeat": "8784h", "probe": {"health_path": path}}
    template = templates.load(write(tmp_path, **sizes)).get("support", "production")
    assert (template.storage_gib, template.probe.health_path) == (65536, path)
    labels = {"bot": "forge", "__health_path__": path}
    (target,) = parse_groups([{"targets": ["127.0.0.1:1"], "labels": labels}], "list").targets
    assert target.health_path == path


def test_bots_of_a_type_may_have_no_mesh(tmp_path: Path) -> None:
    loaded = templates.load(write(tmp_path, probe={"mesh_path": "none"}))
    assert loaded.get("support", "production").probe.mesh_path == "none"
    with pytest.raises(templates.TemplateError, match="health_path"):
        templates.load(write(tmp_path, probe={"health_path": "none"}))


def test_an_environment_changes_only_what_it_names(tmp_path: Path) -> None:
    loaded = templates.load(
        write(tmp_path, environments={"staging": {"heartbeat": "1h", "probe": {"port": 9}}})
    )
    staging, production = loaded.get("support", "staging"), loaded.get("support", "production")
    assert (staging.heartbeat, staging.probe.port, staging.probe.mesh_path) == ("1h", 9, "/mesh")
    assert (production.heartbeat, production.probe.port) == ("20m", 18790)
    assert staging.model == production.model


def test_who_may_talk_to_it_differs_by_environment(tmp_path: Path) -> None:
    overlay = {"development": {"allow_from": [7, 8], "groups": []}}
    loaded = templates.load(write(tmp_path, allow_from=[5], groups=[-1001], environments=overlay))
    production, development = loaded.get("support", "production"), loaded.get("support", "development")
    assert (production.allow_from, production.groups) == ([5], [-1001])
    assert (development.allow_from, development.groups) == ([7, 8], []), "a list is replaced, not added to"


def test_an_unknown_type_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        templates.load().get("nobody", "production")


@pytest.mark.parametrize("name", SEED)
def test_staging_proves_what_production_runs_and_development_costs_no_more(name: str) -> None:
    """An overlay that makes staging another machine or another model would prove nothing."""
    production, staging, development = (
        templates.load().get(name, environment) for environment in templates.ENVIRONMENTS
    )
    differing = {field for field, value in staging if value != getattr(production, field)}
    assert differing == {"heartbeat"}
    sizes = list(INSTANCE_TYPES)
    assert sizes.index(development.instance_type) <= sizes.index(production.instance_type)
    assert development.storage_gib <= production.storage_gib
    assert development.capabilities == production.capabilities


@pytest.mark.parametrize("name", SEED)
def test_the_models_of_the_bundled_types_are_known(name: str) -> None:
    for environment in templates.ENVIRONMENTS:
        assert is_known_model(templates.load().get(name, environment).model)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("anthropic/claude-opus-4-8", True),
        ("anthropic/claude-mythos-5", True),
        ("anthropic/claude-3-opus-20240229", True),
        ("openai/gpt-5.5", True),
        ("anthropic/gpt-5", False),
        ("anthropic/claude-sonet-4", False),
        ("acme/claude-opus-4-8", False),
        ("acme/", False),
        ("claude-opus-4-8", False),
        ("", False),
    ],
)
def test_a_model_is_known_by_the_catalogue_or_the_price_list(model: str, known: bool) -> None:
    assert is_known_model(model) is known


@pytest.mark.parametrize(
    ("model", "instead"),
    [
        ("google/gemini-1.5-flash", "google/gemini-2.5-flash"),
        ("azure-openai-responses/gpt-5.3-codex-spark", ""),
        ("google/gemini-2.5-flash", None),
        ("anthropic/claude-3-5-haiku-latest", None),  # it has an alias
        ("acme/gemini-1.5-flash", None),
    ],
)
def test_a_retired_model_without_an_alias_names_the_one_to_use(model: str, instead: str | None) -> None:
    assert retired_for(model) == instead


def test_everything_but_what_names_the_type_may_differ_for_one_bot() -> None:
    of_the_type = {"name", "description", "models", "scaling", "files"}
    assert set(templates.OVERRIDABLE) == set(templates.BotTemplate.model_fields) - of_the_type


def test_without_overrides_a_bot_has_its_template_itself() -> None:
    template = templates.load().get("support", "production")
    assert templates.overridden(template, {}) is template
    assert templates.overridden(template, {"heartbeat": "20m"}) == template
