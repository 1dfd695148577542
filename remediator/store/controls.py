"""What people decide: pauses and maintenance windows, and answers to requests for approval."""

from dataclasses import asdict

from sqlalchemy import delete, insert, or_, select, update

from remediator.model import Approval, Hold
from remediator.store.schema import approvals, holds
from remediator.store.statements import Statements


class ControlQueries(Statements):
    """The statements on `holds` and `approvals`."""

    async def holds(self) -> list[Hold]:
        current = or_(holds.c.ends_at.is_(None), holds.c.ends_at > self.now)
        return await self.all(Hold, select(holds).where(current).order_by(holds.c.id))

    async def add_hold(self, **values: object) -> int:
        rows = await self.execute(insert(holds).values(**values).returning(holds.c.id))
        return int(rows.scalar_one())

    async def remove_hold(self, hold_id: int) -> bool:
        return (await self.execute(delete(holds).where(holds.c.id == hold_id))).rowcount == 1

    async def approval(self, run_id: str, tier: str) -> Approval | None:
        key = (approvals.c.run_id == run_id) & (approvals.c.tier == tier)
        return await self.one(Approval, select(approvals).where(key))

    async def open_approval(self, run_id: str) -> Approval | None:
        unanswered = (approvals.c.run_id == run_id) & (approvals.c.decision == "")
        return await self.one(Approval, select(approvals).where(unanswered))

    async def ask_approval(self, run_id: str, tier: str, expires_at: float) -> None:
        approval = Approval(run_id, tier, self.now, expires_at, "", "")
        await self.execute(insert(approvals).values(asdict(approval)))

    async def decide_approval(self, run_id: str, decision: str, actor: str) -> Approval | None:
        unanswered = (approvals.c.run_id == run_id) & (approvals.c.decision == "")
        waiting = select(approvals).where(unanswered, approvals.c.expires_at > self.now)
        approval = await self.one(Approval, waiting)
        if approval is not None:
            answer = update(approvals).where(unanswered)
            await self.execute(answer.values(decision=decision, actor=actor[:255]))
        return approval
