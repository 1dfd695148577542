"""The end of what redeploys kept: the old instance is terminated when its rollback window is over."""

from dataclasses import dataclass

import structlog

from remediator.aws.aws import Aws
from remediator.aws.client import no_lease
from remediator.aws.errors import AwsError
from remediator.model import Bot
from remediator.periodic import run_every
from remediator.store.store import Store

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StandbyCleaner:
    """Terminates standbys that are due. One replica leads at a time."""

    store: Store
    aws: Aws
    interval: float  # seconds between two passes

    async def serve(self) -> None:
        """Clean up every `interval` seconds, until cancelled."""
        await run_every(self._clean_up, self.interval, "standbys not ended")

    async def _clean_up(self) -> None:
        for bot in await self._due():
            await self._terminate(bot)

    async def _due(self) -> list[Bot]:
        """Return the bots whose standby is due, if this replica leads; none that a run is changing."""
        async with self.store.read() as tx:
            if not any(is_due(bot, tx.now) for bot in await tx.bots()):
                return []
        async with self.store.write() as tx:
            if not await tx.try_lead("standbys", 3 * self.interval):
                return []
            busy = {run.bot for run in await tx.active_runs()}
            return [bot for bot in await tx.bots() if is_due(bot, tx.now) and bot.name not in busy]

    async def _terminate(self, bot: Bot) -> None:
        instance_id = bot.standby_instance_id
        try:
            await self.aws.terminate(instance_id, no_lease)
        except AwsError as error:
            log.warning("standby not ended", bot=bot.name, instance=instance_id, error=str(error))
            return
        async with self.store.write() as tx:
            current = await tx.bot(bot.name)
            if current is not None and current.standby_instance_id == instance_id:
                await tx.change_bot(bot.name, standby_instance_id="", standby_until=None)
                await tx.audit("standby.ended", bot=bot.name, instance=instance_id)
        log.info("standby ended", bot=bot.name, instance=instance_id)


def is_due(bot: Bot, now: float) -> bool:
    """Return whether the bot's standby is to go.

    One without an end was left by a redeploy that failed: it is due once that is over, and once a person has
    seen to a bot whose redeploy was given up.
    """
    if bot.standby_until is None:
        return bool(bot.standby_instance_id) and bot.quarantined_at is None
    return bool(bot.standby_instance_id) and bot.standby_until <= now
