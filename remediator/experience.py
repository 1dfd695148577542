"""What earlier deployments took, from the steps that the store has kept."""

from dataclasses import dataclass
from itertools import groupby
from typing import Final

from sqlalchemy import select

from remediator import schema
from remediator.model import Step
from remediator.progress import learn
from remediator.transaction import Transaction

ENOUGH: Final = 20  # of the newest runs of a kind
WENT_WELL: Final = ("deployed", "retired", "adopted")


@dataclass(frozen=True, slots=True)
class Experience:
    tx: Transaction

    async def of(self, kind: str) -> dict[str, float]:
        """Seconds to expect of each step of such a run."""
        runs, steps = schema.runs, schema.steps
        newest = (
            select(runs.c.id)
            .where(runs.c.kind == kind, runs.c.status.in_(WENT_WELL))
            .order_by(runs.c.finished_at.desc())
            .limit(ENOUGH)
        )
        found = await self.tx.all(
            Step, select(steps).where(steps.c.run_id.in_(newest)).order_by(steps.c.run_id, steps.c.id)
        )
        return learn(kind, [list(of_run) for _, of_run in groupby(found, key=lambda step: step.run_id)])
