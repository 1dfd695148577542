"""Ends what redeploys kept: the instance before is terminated when its rollback window is over."""

from dataclasses import dataclass

import structlog

from remediator.ec2 import Aws, AwsError
from remediator.model import Bot
from remediator.rounds import repeat
from remediator.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Standbys:
    """One replica looks at a time. Doing it twice would be harmless: such an instance is never used again."""

    store: Store
    aws: Aws
    interval: float  # seconds between two looks

    async def serve(self) -> None:
        """Until cancelled."""
        await repeat(self._look, self.interval, "standbys not ended")

    async def _look(self) -> None:
        for bot in await self._due():
            await self._end(bot)

    async def _due(self) -> list[Bot]:
        async with self.store.read() as tx:
            if not any(is_due(bot, tx.now) for bot in await tx.bots()):
                return []
        async with self.store.write() as tx:
            if not await tx.turn("standbys", 3 * self.interval):
                return []
            busy = {run.bot for run in await tx.active_runs()}
            return [bot for bot in await tx.bots() if is_due(bot, tx.now) and bot.name not in busy]

    async def _end(self, bot: Bot) -> None:
        instance_id = bot.standby_instance_id
        try:
            await self.aws.terminate(instance_id, lambda: None)
        except AwsError as error:
            log.warning("standby not ended", bot=bot.name, instance=instance_id, error=str(error))
            return
        async with self.store.write() as tx:
            fresh = await tx.bot(bot.name)
            if fresh is not None and fresh.standby_instance_id == instance_id:
                await tx.change_bot(bot.name, standby_instance_id="", standby_until=None)
                await tx.audit("standby.ended", bot=bot.name, instance=instance_id)
        log.info("standby ended", bot=bot.name, instance=instance_id)


def is_due(bot: Bot, now: float) -> bool:
    """A standby without an end was left by a redeploy that failed: it is due once that is over."""
    return bool(bot.standby_instance_id) and (bot.standby_until is None or bot.standby_until <= now)
