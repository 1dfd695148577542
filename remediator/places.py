"""Where an instance may run: subnets or zones, and types, in the order in which they are tried. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from templates.facts import INSTANCE_MEMORY_GIB

if TYPE_CHECKING:
    from remediator.settings import Settings

# GiB of memory of types that may stand in for one of a template: x86-64, as the images are.
# https://aws.amazon.com/ec2/instance-types/
MEMORY_GIB: Final[Mapping[str, int]] = {
    **INSTANCE_MEMORY_GIB,
    **{name.replace("t3.", "t3a."): memory for name, memory in INSTANCE_MEMORY_GIB.items()},
    **{name.replace("t3.", "t2."): memory for name, memory in INSTANCE_MEMORY_GIB.items()},
    **{
        f"{family}.{size}": memory * ratio
        for family, ratio in (("c6i", 1), ("c7i", 1), ("m6i", 2), ("m7i", 2), ("r6i", 4))
        for size, memory in (("large", 4), ("xlarge", 8), ("2xlarge", 16))
    },
}


@dataclass(frozen=True, slots=True)
class Place:
    instance_type: str
    subnet: str = ""  # empty: the default one
    zone: str = ""  # empty: EC2 chooses

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.subnet or self.zone or 'any zone'}"


def places(config: Mapping[str, Any], settings: "Settings") -> list[Place]:
    """Every subnet (or zone) with the bot's own type first; then with each other type that has its memory."""
    own: str = config["instance_type"]
    types = [own, *(name for name in settings.instance_types if _as_roomy(name, own))]
    where = [Place("", subnet=subnet) for subnet in settings.subnet_ids]
    where = where or [Place("", zone=zone) for zone in settings.zones] or [Place("")]
    return [Place(name, one.subnet, one.zone) for name in dict.fromkeys(types) for one in where]


def _as_roomy(name: str, own: str) -> bool:
    """A type that is not known may be too small: it is left out."""
    return own in MEMORY_GIB and MEMORY_GIB.get(name, 0) >= MEMORY_GIB[own]
