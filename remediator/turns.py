"""Our own limit on launches: a token bucket that all replicas share, first come, first served.

EC2 takes 5 RunInstances at once and 2 a second after that, and throttles whatever else comes
(docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html). A turn is taken in the database just before
each request, repeats included, and is never given back: whoever dies with one in hand has spent it.
"""

import asyncio
from typing import Final

from remediator.lease import Lease
from remediator.store import Store

FACT: Final = "launch_turn"


def turn(spent: float, now: float, burst: int, refill: float) -> tuple[float, float]:
    """When it is our turn, and what is spent then.

    `spent` is the time at which the bucket is full again (the "theoretical arrival time" of GCRA).
    """
    spent = max(spent, now)
    return max(now, spent - (burst - 1) * refill), spent + refill


async def take_turn(store: Store, lease: Lease, burst: int, refill: float) -> None:
    """Wait for it."""
    async with store.hold(lease) as tx:
        now, kept = tx.now, await tx.fact(FACT)
        at, spent = turn(kept["spent"] if kept else 0.0, now, burst, refill)
        await tx.set_fact(FACT, {"spent": spent})
    await asyncio.sleep(at - now)
