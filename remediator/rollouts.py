"""Rolling updates: what is kept of them, and who drives them.

All that a rollout does is to begin redeploys, in the transaction that writes that it did. So it may be
killed at any time, and two replicas that look at once do nothing twice.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy import insert, select, update

from remediator import bluegreen, schema
from remediator.model import Bot, Run
from remediator.rollout import Begin, End, Member, Move, Place, Rollout, Wait, next_move
from remediator.transaction import Transaction

if TYPE_CHECKING:
    from remediator.services import Services

log = structlog.get_logger()

LOOKS_AT_ONCE: Final = 50
rollouts, members = schema.rollouts, schema.rollout_members


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Their statements."""

    tx: Transaction

    async def add(self, rollout: Rollout, bots: Sequence[str]) -> None:
        await self.tx.execute(insert(rollouts).values(asdict(rollout)))
        rows = [Member(rollout.id, bot, position, None, "") for position, bot in enumerate(bots)]
        await self.tx.execute(insert(members), [asdict(row) for row in rows])

    async def get(self, rollout_id: str) -> Rollout | None:
        return await self.tx.one(Rollout, select(rollouts).where(rollouts.c.id == rollout_id))

    async def recent(self, limit: int) -> list[Rollout]:
        newest = select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id)
        return await self.tx.all(Rollout, newest.limit(limit))

    async def having(self, *status: str) -> list[Rollout]:
        found = select(rollouts).where(rollouts.c.status.in_(status))
        return await self.tx.all(Rollout, found.order_by(rollouts.c.created_at, rollouts.c.id))

    async def members(self, rollout_id: str) -> list[Member]:
        """In their order."""
        found = select(members).where(members.c.rollout_id == rollout_id)
        return await self.tx.all(Member, found.order_by(members.c.position))

    async def change(self, rollout_id: str, **changes: object) -> None:
        await self.tx.execute(update(rollouts).where(rollouts.c.id == rollout_id).values(**changes))

    async def change_member(self, member: Member, **changes: object) -> None:
        mine = (members.c.rollout_id == member.rollout_id) & (members.c.bot == member.bot)
        await self.tx.execute(update(members).where(mine).values(**changes))

    async def places(self, rollout: Rollout, ill: Collection[str] = ()) -> list[Place]:
        """The members as they are now; `ill`: the names of bots."""
        of = await self.members(rollout.id)
        bots = {bot.name: bot for bot in await self.tx.bots()}
        runs = await self.tx.runs_named({member.run_id for member in of if member.run_id is not None})
        busy = {run.bot: run for run in await self.tx.active_runs()}
        holds = await self.tx.holds()

        def place(member: Member) -> Place:
            bot, run = bots.get(member.bot), runs.get(member.run_id or "")
            if bot is None:
                return Place(member, run, gone="it is no longer in the registry")
            if bot.quarantined_at is not None and run is None:
                return Place(member, run, gone=f"in quarantine: {bot.quarantine_reason}")
            held = [f"paused: {hold.reason}" for hold in holds if hold.covers(bot, self.tx.now)]
            if bot.name in busy:
                held.append(f"in the hands of {busy[bot.name].id}")
            return Place(member, run, held="; ".join(held), ill=bot.name in ill)

        return [place(member) for member in of]


@dataclass(frozen=True, slots=True)
class Conductor:
    """Drives every rollout that is running. One replica looks at a time."""

    services: "Services"

    @property
    def interval(self) -> float:
        return self.services.settings.gate_interval

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # the boundary of this service: the next look may succeed
                log.exception("rollouts stumbled")
            await asyncio.sleep(self.interval)

    async def look(self) -> None:
        """One move of each rollout."""
        store = self.services.store
        async with store.read() as tx:
            running = await Rollouts(tx).having("running")
            names = {one.bot for rollout in running for one in await Rollouts(tx).members(rollout.id)}
            bots = [bot for bot in await tx.bots() if bot.name in names and bot.state == "active"]
        if not running or not await self._has_turn():
            return
        ill = await self._ill(bots)
        async with store.read() as tx:  # mostly there is nothing to write
            moves = {one.id: await _next(tx, one, ill) for one in await Rollouts(tx).having("running")}
            if all(moves[one.id] == Wait(one.why) for one in running if one.id in moves):
                return
        begun: list[Run] = []
        async with store.write() as tx:
            for rollout in await Rollouts(tx).having("running"):
                begun += await self._move(tx, rollout, ill)
        for run in begun:
            self.services.engine.drive(run)

    async def _has_turn(self) -> bool:
        store = self.services.store
        if store.alone:
            return True
        async with store.write() as tx:
            return await tx.turn("rollouts", 3 * self.interval + self.services.settings.probe_timeout)

    async def _ill(self, bots: Sequence[Bot]) -> set[str]:
        """Those that do not answer well several times in a row."""
        prober = self.services.prober
        limit = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def ill(bot: Bot) -> bool:
            for number in range(prober.needed):
                async with limit:
                    if (await prober.look(bot.target())).healthy:
                        return False
                if number + 1 < prober.needed:
                    await asyncio.sleep(prober.interval)
            return True

        found = await asyncio.gather(*map(ill, bots))
        return {bot.name for bot, is_ill in zip(bots, found, strict=True) if is_ill}

    async def _move(self, tx: Transaction, rollout: Rollout, ill: Collection[str]) -> list[Run]:
        """The runs that it has begun: to be driven once this is kept."""
        kept = Rollouts(tx)
        match await _next(tx, rollout, ill):
            case Wait(why):
                if why != rollout.why:
                    await kept.change(rollout.id, why=why)
            case End(status, why):
                await kept.change(rollout.id, status=status, why=why, finished_at=tx.now)
                await tx.audit(f"rollout.{status}", rollout=rollout.id, why=why)
                await tx.notify("", f"{'✅' if status == 'completed' else '🛑'} {rollout.id} {status}: {why}")
                log.info("rollout ended", rollout=rollout.id, status=status, why=why)
            case Begin(bots, skip, why):
                by_name = {member.bot: member for member in await kept.members(rollout.id)}
                for name, reason in skip.items():
                    await kept.change_member(by_name[name], skipped=reason)
                if bots:
                    await kept.change(rollout.id, why=why)
                return [await self._begin(tx, rollout, by_name[name]) for name in bots]
        return []

    async def _begin(self, tx: Transaction, rollout: Rollout, member: Member) -> Run:
        bot: Any = await tx.bot(member.bot)
        run = await bluegreen.begin(
            self.services,
            tx,
            bot,
            version=None,
            actor=rollout.actor,
            reason=f"{rollout.reason} ({rollout.id})",
        )
        await Rollouts(tx).change_member(member, run_id=run.id)
        log.info("rollout goes on", rollout=rollout.id, bot=member.bot, run=run.id)
        return run


async def _next(tx: Transaction, rollout: Rollout, ill: Collection[str]) -> Move:
    storm = (await tx.fact("storm") or {}).get("active", False)
    return next_move(rollout, await Rollouts(tx).places(rollout, ill), storm=storm)
