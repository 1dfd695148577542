"""What all replicas share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from remediator.metrics import Metrics
from remediator.settings import Settings
from sandbox.simulator.aws import Region
from sandbox.simulator.groups import Scrapes
from sandbox.simulator.memory import MemoryDatabase
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.world import World
from templates import Templates


@dataclass
class Surroundings:
    world: World
    region: Region
    database: MemoryDatabase
    oracle: Oracle
    settings: Settings
    templates: Templates
    metrics: Metrics
    random: Random
    scrapes: Scrapes | None = None  # where groups scale
    blind: str = ""
    silences: list[Mapping[str, Any]] = field(default_factory=list)
    store_broken: float = 0.0  # share of the transactions that fail
