"""The tables of rolling updates."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import insert, select, update

from remediator.model import Run
from remediator.rollouts.planner import Member, MemberState, Rollout, Status
from remediator.store.schema import rollout_members as members
from remediator.store.schema import rollouts, runs
from remediator.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class RolloutRepository:
    """Rollouts and their members, in one transaction."""

    tx: Transaction

    async def add(self, rollout: Rollout, bots: Sequence[str]) -> None:
        """Add a rollout over these bots, which it takes in this order."""
        await self.tx.execute(insert(rollouts).values(asdict(rollout)))
        rows = [Member(rollout.id, bot, position, None, "") for position, bot in enumerate(bots)]
        await self.tx.execute(insert(members), [asdict(row) for row in rows])

    async def get(self, rollout_id: str) -> Rollout | None:
        """Return the rollout of that id."""
        return await self.tx.one(Rollout, select(rollouts).where(rollouts.c.id == rollout_id))

    async def recent(self, limit: int) -> list[Rollout]:
        """Return the newest rollouts, newest first."""
        newest = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id)
        return await self.tx.all(Rollout, newest.limit(limit))

    async def with_status(self, *statuses: Status) -> list[Rollout]:
        """Return the rollouts that have one of these statuses, oldest first."""
        query = select(rollouts).where(rollouts.c.status.in_(statuses))
        return await self.tx.all(Rollout, query.order_by(rollouts.c.created_at, rollouts.c.id))

    async def members(self, rollout_id: str) -> list[Member]:
        """Return the members in their order."""
        query = select(members).where(members.c.rollout_id == rollout_id)
        return await self.tx.all(Member, query.order_by(members.c.position))

    async def outcomes(self, *statuses: Status) -> dict[str, list[MemberState]]:
        """Return the members of the rollouts in one of these states, by rollout, with their runs alone.

        Two statements for all rollouts: what holds a member, or whether it is ill, is not read.
        """
        of_rollouts = members.c.rollout_id == rollouts.c.id
        in_status = rollouts.c.status.in_(statuses)
        begun = select(runs).join(members, members.c.run_id == runs.c.id).join(rollouts, of_rollouts)
        by_id = {run.id: run for run in await self.tx.all(Run, begun.where(in_status))}
        rows = select(members).join(rollouts, of_rollouts).where(in_status)
        states: dict[str, list[MemberState]] = {}
        for member in await self.tx.all(Member, rows.order_by(members.c.rollout_id, members.c.position)):
            state = MemberState(member, by_id.get(member.run_id or ""))
            states.setdefault(member.rollout_id, []).append(state)
        return states

    async def change(self, rollout_id: str, **changes: object) -> None:
        """Set these columns of a rollout."""
        await self.tx.execute(update(rollouts).where(rollouts.c.id == rollout_id).values(**changes))

    async def change_member(self, member: Member, **changes: object) -> None:
        """Set these columns of a member."""
        row = (members.c.rollout_id == member.rollout_id) & (members.c.bot == member.bot)
        await self.tx.execute(update(members).where(row).values(**changes))

    async def member_states(self, rollout: Rollout, ill: Collection[str] = ()) -> list[MemberState]:
        """Return the members as they are now, in their order; `ill`: the names of bots."""
        rows = await self.members(rollout.id)
        bots = {bot.name: bot for bot in await self.tx.bots()}
        runs = await self.tx.runs_named({member.run_id for member in rows if member.run_id is not None})
        busy = {run.bot: run for run in await self.tx.active_runs()}
        holds = await self.tx.holds()

        def state(member: Member) -> MemberState:
            bot, run = bots.get(member.bot), runs.get(member.run_id or "")
            if bot is None:
                return MemberState(member, run, excluded="it is no longer in the registry")
            if bot.quarantined_at is not None and run is None:
                return MemberState(member, run, excluded=f"in quarantine: {bot.quarantine_reason}")
            blocks = [f"paused: {hold.reason}" for hold in holds if hold.covers(bot, self.tx.now)]
            if bot.name in busy:
                blocks.append(f"in the hands of {busy[bot.name].id}")
            return MemberState(member, run, blocked="; ".join(blocks), ill=bot.name in ill)

        return [state(member) for member in rows]
