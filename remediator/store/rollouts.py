"""The end of all rollouts at once; their other statements are in `remediator.rollouts.repository`."""

from sqlalchemy import update

from remediator.store.schema import rollouts
from remediator.store.statements import Statements


class RolloutQueries(Statements):
    """The statement on `rollouts`."""

    async def cancel_rollouts(self, reason: str) -> None:
        active = update(rollouts).where(rollouts.c.finished_at.is_(None))
        await self.execute(active.values(status="cancelled", why=reason, finished_at=self.now))
