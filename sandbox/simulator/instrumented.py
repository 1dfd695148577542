"""Production's classes that ask what is outside: here the world answers, and the oracle watches."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from exporter.targets import Target
from remediator.monitoring.alertmanager import Alertmanager, Silences
from remediator.monitoring.prober import Observation, Prober
from remediator.monitoring.prometheus import Prometheus, PrometheusError
from remediator.recovery.monitoring_status import MonitoringStatus
from remediator.scaling.autoscaler import Autoscaler
from remediator.store.errors import StoreError
from sandbox.simulator.environment import Environment
from sandbox.simulator.oracle import Oracle


class Owner(Protocol):
    """The replica that asks."""

    shared: Environment

    async def reach(self) -> None: ...


class SimulatedProber(Prober):
    """Probes the world."""

    replica: Owner

    async def probe_once(self, target: Target) -> Observation:
        await self.replica.reach()
        world = self.replica.shared.world
        if world.is_silent(target.address):
            await asyncio.sleep(self.timeout)
            await self.replica.reach()
        return world.observe(target.address) if target.address else Observation(False, "it has no address")


class SimulatedMonitoring(MonitoringStatus):
    """Says what the world's incidents say of monitoring."""

    replica: Owner

    async def problem(self) -> str:
        await self.replica.reach()
        return self.replica.shared.monitoring_problem


@dataclass(frozen=True)
class SimulatedTurns(Prometheus):
    """Says of every bot whether its turns fail."""

    replica: Owner

    async def by_bot(self, expression: str, at: float | None = None) -> dict[str, float]:
        await self.replica.reach()
        shared = self.replica.shared
        if shared.monitoring_problem:
            raise PrometheusError(shared.monitoring_problem)
        bots = shared.database.tables.bots.values()
        symptoms = {bot.name: shared.world.symptom(bot.address) for bot in bots}
        return {name: float(symptom == "mute") for name, symptom in symptoms.items() if symptom != "down"}


class SimulatedAlertmanager(Alertmanager):
    """Has the silences that incidents have made."""

    replica: Owner

    async def silences(self) -> Silences:
        return Silences(self.replica.shared.silences)


@dataclass
class WatchedScaler(Autoscaler):
    """Reports every fault of our own to the oracle."""

    oracle: Oracle

    async def scale_groups(self) -> None:
        try:
            await super().scale_groups()
        except StoreError:
            raise
        except Exception as error:
            self.oracle.violated(f"a fault of our own in scaling: {error!r}")
            raise
