"""What all replicas share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from remediator.metrics import Metrics
from remediator.settings import Settings
from sandbox.simulator.memory_store import MemoryDatabase
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.scaling_groups import Scrapes
from sandbox.simulator.simulated_aws import Region
from sandbox.simulator.world import World
from templates import Templates


@dataclass
class Environment:
    world: World
    region: Region
    database: MemoryDatabase
    oracle: Oracle
    settings: Settings
    templates: Templates
    metrics: Metrics
    random: Random
    scrapes: Scrapes | None = None  # where groups scale
    works: bool = False  # whether anybody asks how bots' turns end
    monitoring_problem: str = ""  # why nothing that is seen can be trusted
    silences: list[Mapping[str, Any]] = field(default_factory=list)
    store_broken: float = 0.0  # share of the transactions that fail
