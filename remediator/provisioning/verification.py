"""The proof that a bot is up at an address, with the configuration that it should run, and hears."""

import asyncio

from remediator.engine.journal import Done, Failed, Outcome
from remediator.model import Bot
from remediator.monitoring.prober import Observation, Prober


async def verify_bot(
    prober: Prober, bot: Bot, address: str, patience: float, *, window: float = 0, hears: bool = False
) -> Outcome:
    """Probe the bot at `address` until it is well, for at most `patience` seconds.

    Well: healthy several times in a row, then for `window` seconds, with the bot's own configuration where
    it says which it runs, and (`hears`) with no channel that it says is down: one that stands by has none.
    Done has the columns `boot_id` and `started_at`. A fault of ours is waited out.
    """

    async def reject(observation: Observation) -> str | None:
        if observation.config_sha not in (None, bot.config_sha):
            return f"it runs configuration {observation.config_sha}, not {bot.config_sha}"
        if hears and observation.work.down:
            return f"it does not hear: {', '.join(observation.work.down)} is down"
        return None

    well, observation = await prober.verify(bot.target(address), patience, reject, window=window)
    while observation.own_fault:
        await asyncio.sleep(prober.interval)
        well, observation = await prober.verify(bot.target(address), 0, reject, window=window)
    if not well:
        return Failed(observation.detail)
    columns = {"boot_id": observation.boot_id, "started_at": observation.started_at}
    return Done(columns, observation.detail)
