"""Production's parts with the model before their eyes, and the oracle looking over their shoulders."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from exporter.targets import Target
from remediator.engine import Engine, _Task
from remediator.lease import LeaseLostError
from remediator.model import Bot
from remediator.prober import Look, Prober
from remediator.recovery import Around, Recovery
from remediator.scaler import Scaler
from remediator.sight import Sight
from sandbox.simulator.oracle import Oracle
from sandbox.simulator.surroundings import Surroundings


class Owner(Protocol):
    """The replica whose eyes these are."""

    around: Surroundings

    async def reach(self) -> None: ...


class SimulatedProber(Prober):
    replica: Owner

    async def look(self, target: Target) -> Look:
        await self.replica.reach()
        world = self.replica.around.world
        if world.is_silent(target.address):
            await asyncio.sleep(self.timeout)
            await self.replica.reach()
        return world.look(target.address) if target.address else Look(False, "it has no address")


class SimulatedSight(Sight):
    replica: Owner

    async def blind(self) -> str:
        await self.replica.reach()
        return self.replica.around.blind

    async def silences(self) -> list[Mapping[str, Any]]:
        return self.replica.around.silences


class WatchedRecovery(Recovery):
    oracle: Oracle

    async def _look_around(self, bot: Bot) -> Around:
        around = await super()._look_around(bot)
        self.oracle.looked(bot.name, around)
        return around


class WatchedEngine(Engine):
    oracle: Oracle

    async def _drive(self, run_id: str, item: _Task, stumbles: int) -> bool:
        try:
            return await super()._drive(run_id, item, stumbles)
        except IntegrityError as error:
            self.oracle.violated(f"{run_id} writes what is there already: {error.orig}")
            raise
        except (LeaseLostError, SQLAlchemyError):
            raise
        except Exception as error:
            self.oracle.violated(f"a fault of our own in {run_id}: {error!r}")
            raise


@dataclass
class WatchedScaler(Scaler):
    oracle: Oracle

    async def round(self) -> None:
        try:
            await super().round()
        except SQLAlchemyError:
            raise
        except Exception as error:
            self.oracle.violated(f"a fault of our own in scaling: {error!r}")
            raise
