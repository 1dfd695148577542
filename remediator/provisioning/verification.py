"""The proof that a bot is up at an address, with the configuration that it should run, and hears."""

import asyncio
from collections.abc import Callable

from exporter.targets import NO_MESH
from remediator.engine.journal import Done, Failed, Outcome
from remediator.model import Bot
from remediator.monitoring.prober import Observation, Prober, Reject

Soak = Callable[[Bot, float], Reject]
"""Begins to watch a bot's work for so many seconds: what says of each healthy answer why it does not work."""


async def verify_bot(
    prober: Prober,
    bot: Bot,
    address: str,
    patience: float,
    *,
    window: float = 0,
    works: Reject | None = None,
) -> Outcome:
    """Probe the bot at `address` until it is well, for at most `patience` seconds.

    Well: healthy several times in a row, then for `window` seconds, with the bot's own configuration where
    it says which it runs. With `works`, where its token is its own: with channels that are up where it tells
    of them, and with no reason against it by `works`. Done has the columns `boot_id` and `started_at`. A
    fault of ours is waited out.
    """

    async def reject(observation: Observation) -> str | None:
        if observation.config_sha not in (None, bot.config_sha):
            return f"it runs configuration {observation.config_sha}, not {bot.config_sha}"
        if works is None:
            return None
        return deafness_of(bot, observation) or await works(observation)

    well, observation = await prober.verify(bot.target(address), patience, reject, window=window)
    while observation.own_fault:
        await asyncio.sleep(prober.interval)
        well, observation = await prober.verify(bot.target(address), 0, reject, window=window)
    if not well:
        return Failed(observation.detail)
    columns = {"boot_id": observation.boot_id, "started_at": observation.started_at}
    return Done(columns, observation.detail)


def deafness_of(bot: Bot, observation: Observation) -> str:
    """Return why a bot that may use its token does not hear, by its own word; "" where it does not say so."""
    if observation.work.down:
        return f"it does not hear: {', '.join(observation.work.down)} is down"
    return standby_of(bot, observation)


def standby_of(bot: Bot, observation: Observation) -> str:
    """Say so where a bot still stands by: our bridge, which tells its configuration, lists no channel."""
    ours = observation.config_sha is not None and bot.mesh_path != NO_MESH
    return "it stands by still: no channel is up" if ours and observation.work.channels == {} else ""
