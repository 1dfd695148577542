"""Requests of a restart as the gatekeeper writes them, for tests that call a restarter itself."""

import math
import time

from remediator.engine.journal import Journal
from remediator.model import Bot, Run
from remediator.recovery.tier_request import TierRequest
from remediator.store.lease import Lease
from sandbox.simulator.memory_store import MemoryDatabase, MemoryStore

RUN = Run("rec-1", "recover", "forge", "manual", "", "running", "", "", 0.0, None)


def bot_at(address: str, instance_id: str) -> Bot:
    """Make the bot of RUN, at that address (host and port)."""
    return Bot(
        "forge", "support", "staging", "active", address, "/health", "/mesh", instance_id, {}, "sha", None,
        None, "", None, None, 0, 0, 0,
    )  # fmt: skip


def restart_request(
    bot: Bot,
    *,
    boot_id: str | None = None,
    started_at: str | None = None,
    timeout: float = 30,
    began_at: float | None = None,
) -> TierRequest:
    """Make the request of a restart that began now, or then; `boot_id`, `started_at`: the bot's before it."""
    database = MemoryDatabase(time.time, alone=True)
    store = MemoryStore(database, replica="", lease_seconds=30, clock=time.time, monotonic=time.monotonic)
    return TierRequest(
        Journal(store, RUN, Lease(RUN.id, 1, math.inf)),
        bot,
        "restart",
        instance_id=bot.instance_id,
        boot_id=boot_id,
        started_at=started_at,
        began_at=time.time() if began_at is None else began_at,
        timeout=timeout,
    )
