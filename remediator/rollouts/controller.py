"""The loop that drives rolling updates.

All that a rollout does is to begin redeploys, in the transaction that writes that it did. So it may be
killed at any time, and two replicas at once do nothing twice.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from remediator.engine.engine import Engine
from remediator.errors import Refused
from remediator.model import Bot, Run
from remediator.monitoring.prober import Prober
from remediator.periodic import run_every
from remediator.provisioning import blue_green
from remediator.rollouts.planner import Begin, End, Member, Move, Rollout, Wait, next_move
from remediator.rollouts.repository import RolloutRepository
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction

log = structlog.get_logger()

PROBES_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class RolloutController:
    """Drives every rollout that is running. One replica leads at a time."""

    store: Store
    prober: Prober
    engine: Engine
    settings: Settings

    async def serve(self) -> None:
        """Advance every rollout each `gate_interval`, until cancelled."""
        await run_every(self.advance, self.settings.gate_interval, "rollouts not advanced")

    async def advance(self) -> None:
        """Make one move of each rollout, if this replica leads."""
        async with self.store.read() as tx:
            repository = RolloutRepository(tx)
            rollouts = await repository.with_status("running")
            names = {member.bot for rollout in rollouts for member in await repository.members(rollout.id)}
            bots = [bot for bot in await tx.bots() if bot.name in names and bot.state == "active"]
        if not rollouts or not await self._leads():
            return
        ill = await self._ill(bots)
        if ill is None:
            return
        async with self.store.read() as tx:  # mostly there is nothing to write
            moves = {
                rollout.id: await _next_move(tx, rollout, ill)
                for rollout in await RolloutRepository(tx).with_status("running")
            }
            if all(moves[rollout.id] == Wait(rollout.why) for rollout in rollouts if rollout.id in moves):
                return
        runs: list[Run] = []
        async with self.store.write() as tx:
            for rollout in await RolloutRepository(tx).with_status("running"):
                runs += await self._move(tx, rollout, ill)
        for run in runs:
            self.engine.drive(run)

    async def _leads(self) -> bool:
        if self.store.alone:
            return True
        seconds = 3 * self.settings.gate_interval + self.settings.probe_timeout
        async with self.store.write() as tx:
            return await tx.try_lead("rollouts", seconds)

    async def _ill(self, bots: Sequence[Bot]) -> set[str] | None:
        """Return the names of those that do not answer well several times in a row.

        None where one could not be looked at, by a fault of ours: no rollout moves on that.
        """
        prober = self.prober
        limit = asyncio.Semaphore(PROBES_AT_ONCE)

        async def is_ill(bot: Bot) -> bool | None:
            for number in range(prober.needed):
                async with limit:
                    observation = await prober.probe_once(bot.target())
                if observation.healthy or observation.own_fault:
                    return None if observation.own_fault else False
                if number + 1 < prober.needed:
                    await asyncio.sleep(prober.interval)
            return True

        results = await asyncio.gather(*map(is_ill, bots))
        if None in results:
            return None
        return {bot.name for bot, ill in zip(bots, results, strict=True) if ill}

    async def _move(self, tx: Transaction, rollout: Rollout, ill: Collection[str]) -> list[Run]:
        """Make the rollout's next move; return the runs that it begins, to be driven after the commit."""
        repository = RolloutRepository(tx)
        match await _next_move(tx, rollout, ill):
            case Wait(reason):
                if reason != rollout.why:
                    await repository.change(rollout.id, why=reason)
            case End() as end:
                await _end(tx, rollout, end)
            case Begin(bots, skip, reason):
                members = {member.bot: member for member in await repository.members(rollout.id)}
                for name, skip_reason in skip.items():
                    await repository.change_member(members[name], skipped=skip_reason)
                if bots:
                    await repository.change(rollout.id, why=reason)
                return await self._begin_batch(tx, rollout, [members[name] for name in bots])
        return []

    async def _begin_batch(self, tx: Transaction, rollout: Rollout, batch: Sequence[Member]) -> list[Run]:
        """Begin their redeploys, up to the first that is refused: that one stops the rollout."""
        runs: list[Run] = []
        for member in batch:
            try:
                runs.append(await self._begin(tx, rollout, member))
            except Refused as refused:
                reason = f"{member.bot} cannot be redeployed: {refused.message}; {refused.remedy}"
                await _end(tx, rollout, End("stopped", reason))
                break
        return runs

    async def _begin(self, tx: Transaction, rollout: Rollout, member: Member) -> Run:
        bot: Any = await tx.bot(member.bot)
        reason = f"{rollout.reason} ({rollout.id})"
        run = await blue_green.begin(self.settings, tx, bot, version=None, actor=rollout.actor, reason=reason)
        await RolloutRepository(tx).change_member(member, run_id=run.id)
        log.info("rollout goes on", rollout=rollout.id, bot=member.bot, run=run.id)
        return run


async def _end(tx: Transaction, rollout: Rollout, end: End) -> None:
    """Write the rollout's end down, and tell people."""
    status, reason = end.status, end.reason
    await RolloutRepository(tx).change(rollout.id, status=status, why=reason, finished_at=tx.now)
    await tx.audit(f"rollout.{status}", rollout=rollout.id, why=reason)
    sign = "✅" if status == "completed" else "🛑"
    await tx.notify("", f"{sign} {rollout.id} {status}: {reason}")
    log.info("rollout ended", rollout=rollout.id, status=status, why=reason)


async def _next_move(tx: Transaction, rollout: Rollout, ill: Collection[str]) -> Move:
    storm = (await tx.fact("storm") or {}).get("active", False)
    return next_move(rollout, await RolloutRepository(tx).member_states(rollout, ill), storm=storm)
