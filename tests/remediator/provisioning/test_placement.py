"""Placements: which are tried, and in which order."""

from typing import Any

import pytest

from remediator.provisioning.placement import Placement, placements
from remediator.settings import SettingsError, read_settings


def order(config: dict[str, Any], **settings: Any) -> list[str]:
    return [str(placement) for placement in placements(config, read_settings(**settings))]


def test_every_zone_is_tried_with_the_own_type_before_another_type_is() -> None:
    assert order({"instance_type": "t3.small"}) == ["t3.small in any zone"]
    assert order({"instance_type": "t3.small"}, zones="a b", instance_types="t3a.small m6i.large") == [
        "t3.small in a",
        "t3.small in b",
        "t3a.small in a",
        "t3a.small in b",
        "m6i.large in a",
        "m6i.large in b",
    ]


def test_a_type_with_less_memory_never_stands_in() -> None:
    settings = read_settings(instance_types="t3a.medium t2.small t3.large", subnet_ids="subnet-1")
    assert placements({"instance_type": "t3.medium"}, settings) == [
        Placement(name, subnet="subnet-1") for name in ("t3.medium", "t3a.medium", "t3.large")
    ]


def test_a_type_of_another_architecture_never_stands_in() -> None:
    """The image and Node would be others."""
    types = "t3a.small t4g.small m7g.large m7i.large"
    assert order({"instance_type": "t3.small"}, instance_types=types) == [
        "t3.small in any zone",
        "t3a.small in any zone",
        "m7i.large in any zone",
    ]
    assert order({"instance_type": "t4g.small"}, instance_types=types) == [
        "t4g.small in any zone",
        "m7g.large in any zone",
    ]


def test_the_image_is_that_of_the_architecture() -> None:
    settings = read_settings(ami="ami-1", ami_arm64="ami-2")
    assert [settings.image_of(name) for name in ("t3.micro", "m7i.large", "t9.huge")] == ["ami-1"] * 3
    assert [settings.image_of(name) for name in ("t4g.micro", "m7g.large")] == ["ami-2"] * 2
    defaults = read_settings()
    assert defaults.ami.replace("amd64", "arm64") == defaults.ami_arm64


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"instance_types": "t9.small"}, "INSTANCE_TYPES: t9.small is not known; use a size of t2, t3"),
        ({"instance_types": "t4g.huge"}, "INSTANCE_TYPES: t4g.huge is not known; use one of t4g.nano"),
        ({"zones": "a", "subnet_ids": "s"}, "ZONES"),
        ({"ami": read_settings().ami_arm64}, "AMI: is an image of arm64; name it in AMI_ARM64"),
        ({"ami_arm64": read_settings().ami}, "AMI_ARM64: is an image of amd64; name it in AMI"),
    ],
)
def test_a_setting_that_cannot_be_is_named(settings: dict[str, str], named: str) -> None:
    """A subnet has its zone; an image has one architecture."""
    with pytest.raises(SettingsError, match=f"BOT_REMEDIATOR_{named}"):
        read_settings(**settings)
