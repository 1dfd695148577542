"""The few facts that all replicas share, who leads what, and the state of groups that scale."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select, update

from remediator.store.lease import may_lead
from remediator.store.schema import facts, scaling
from remediator.store.statements import Statements


class FactQueries(Statements):
    """The statements on `facts` and `scaling`."""

    async def fact(self, name: str) -> Any:
        rows = await self.execute(select(facts.c.value).where(facts.c.name == name))
        return rows.scalar_one_or_none()

    async def set_fact(self, name: str, value: object) -> None:
        changed = update(facts).where(facts.c.name == name).values(value=value)
        if (await self.execute(changed)).rowcount == 0:
            await self.execute(insert(facts).values(name=name, value=value))

    async def try_lead(self, role: str, seconds: float) -> bool:
        if self._replica.alone:
            return True
        if not may_lead(await self.fact(f"turn:{role}"), self._replica.name, self.now):
            return False
        leadership = {"replica": self._replica.name, "until": self.now + seconds}
        await self.set_fact(f"turn:{role}", leadership)
        return True

    async def scaling(self, template: str, environment: str) -> dict[str, Any]:
        group = (scaling.c.template == template) & (scaling.c.environment == environment)
        state = (await self.execute(select(scaling.c.state).where(group))).scalar_one_or_none()
        return dict(state or {})

    async def scaling_states(self) -> dict[tuple[str, str], dict[str, Any]]:
        rows = await self.execute(select(scaling))
        return {(row.template, row.environment): dict(row.state) for row in rows}

    async def set_scaling(self, template: str, environment: str, state: Mapping[str, Any]) -> None:
        group = (scaling.c.template == template) & (scaling.c.environment == environment)
        if (await self.execute(update(scaling).where(group).values(state=dict(state)))).rowcount == 0:
            row = {"template": template, "environment": environment, "state": dict(state)}
            await self.execute(insert(scaling).values(row))
