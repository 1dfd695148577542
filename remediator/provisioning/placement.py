"""Placements of an instance: subnets or zones, and types, in the order in which they are tried. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remediator.settings import Settings
from templates.instance_types import INSTANCE_TYPES


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance type, and where it is asked for."""

    instance_type: str
    subnet: str = ""  # empty: the default one
    zone: str = ""  # empty: EC2 chooses

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.subnet or self.zone or 'any zone'}"


def placements(config: Mapping[str, Any], settings: Settings) -> list[Placement]:
    """Return every subnet (or zone) with the bot's own type, then with each other that may stand in.

    One with less memory may not, nor one of another architecture: the image and Node would be others.
    """
    own: str = config["instance_type"]
    types = [own, *(name for name in settings.instance_types if _may_stand_in(name, own))]
    locations = [(subnet, "") for subnet in settings.subnet_ids]
    locations = locations or [("", zone) for zone in settings.zones] or [("", "")]
    return [Placement(name, subnet, zone) for name in dict.fromkeys(types) for subnet, zone in locations]


def _may_stand_in(name: str, own: str) -> bool:
    """Return whether a type has at least the memory of the bot's own, and its architecture."""
    other, kind = INSTANCE_TYPES.get(name), INSTANCE_TYPES.get(own)
    if other is None or kind is None:
        return False
    return other.memory_gib >= kind.memory_gib and other.architecture == kind.architecture
