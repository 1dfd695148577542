"""The storm, and what many bots need and do not have, as all replicas know it.

Written down at each census, and watched until it is over.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import structlog

from remediator.notifications.messages import dependency_lost, dependency_restored
from remediator.periodic import run_every
from remediator.recovery.census import Census
from remediator.recovery.dependencies import ALONE, Dependency, next_dependencies
from remediator.recovery.limits import Limits
from remediator.recovery.storm import Fleet, Storm, next_storm
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()

DEPENDENCIES: Final = "dependencies"  # the fact: a list of those that are away


@dataclass
class StormWatch:
    """Keeps the storm and the dependencies, facts in the store.

    The gatekeeper records each census that it takes.
    """

    store: Store
    census: Census
    limits: Limits
    interval: float  # seconds between two censuses while a storm is on
    storm: Storm = field(default_factory=Storm)  # as last recorded by this replica

    async def record(self, tx: Transaction, fleet: Fleet) -> Storm:
        """Write down what this census makes of the storm and of dependencies; return the storm."""
        await self._record_dependencies(tx, fleet)
        before = Storm.from_fact(await tx.fact("storm"))
        storm = next_storm(before, fleet, tx.now, self.limits)
        if storm != before:
            await tx.set_fact("storm", asdict(storm))
        if storm.active != before.active:
            event = "storm.began" if storm.active else "storm.over"
            await tx.audit(event, unhealthy=fleet.unhealthy, probed=fleet.probed)
            log.warning(event, unhealthy=fleet.unhealthy, probed=fleet.probed)
        self.storm = storm
        return storm

    async def _record_dependencies(self, tx: Transaction, fleet: Fleet) -> None:
        """Tell people once when the first is away by a symptom, and once when none is any more."""
        before = await read_dependencies(tx)
        after = next_dependencies(before, fleet, tx.now, self.limits)
        if after != before:
            await tx.set_fact(DEPENDENCIES, [asdict(dependency) for dependency in after])
        for symptom in sorted(ALONE):
            was, away = (
                [dependency.reason for dependency in dependencies if dependency.symptom == symptom]
                for dependencies in (before, after)
            )
            if bool(was) == bool(away):
                continue
            reason = "; ".join(away or was)
            await tx.notify("", dependency_lost(reason) if away else dependency_restored(reason))
            await tx.audit("dependency.lost" if away else "dependency.restored", symptom=symptom, why=reason)
            log.warning("dependency lost" if away else "dependency restored", symptom=symptom, why=reason)

    async def serve(self) -> None:
        """Take a census at each interval of a storm, so that its end is noticed though no run asks.

        Also of one that another replica recorded, or this one before it was restarted.
        """
        await run_every(self.check, self.interval, "no census taken")

    async def check(self) -> None:
        """Take a census if a storm is on or a dependency is away, and record it."""
        async with self.store.read() as tx:
            storm = Storm.from_fact(await tx.fact("storm"))
            dependencies = await read_dependencies(tx)
        if storm.active or dependencies:
            fleet = await self.census.take()
            async with self.store.write() as tx:
                await self.record(tx, fleet)


async def read_dependencies(tx: Transaction) -> Sequence[Dependency]:
    """Return what many bots need and do not have, as last written down."""
    return [Dependency.from_fact(fact) for fact in await tx.fact(DEPENDENCIES) or []]
