"""Our own limit on launches: a token bucket that all replicas share, first come, first served.

EC2 takes 5 RunInstances at once and 2 a second after that, and throttles whatever else comes
(docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html). A slot is taken in the database just before
each request, repeats included, and is never given back: a replica that dies with a slot has spent it.
"""

import asyncio
from typing import Final

from remediator.store.lease import Lease
from remediator.store.store import Store

FACT: Final = "launch_turn"  # {"spent": when the bucket is full again}


def next_slot(full_at: float, now: float, burst: int, refill: float) -> tuple[float, float]:
    """Return (when we may launch, when the bucket is full again after it), by GCRA; Unix times.

    `full_at`: GCRA's theoretical arrival time (en.wikipedia.org/wiki/Generic_cell_rate_algorithm). `burst`:
    launches that may be made at once; `refill`: seconds until one more may be.
    """
    full_at = max(full_at, now)
    return max(now, full_at - (burst - 1) * refill), full_at + refill


async def wait_for_slot(store: Store, lease: Lease, burst: int, refill: float) -> None:
    """Take the next slot, and sleep until it comes."""
    async with store.write_as(lease) as tx:
        now, fact = tx.now, await tx.fact(FACT)
        at, full_at = next_slot(fact["spent"] if fact else 0.0, now, burst, refill)
        await tx.set_fact(FACT, {"spent": full_at})
    await asyncio.sleep(at - now)
