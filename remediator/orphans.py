"""What carries our tag, and costs, and no bot and no run claims. What is one is pure; looking is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remediator.caller import BOT_TAG, DEPLOYMENT_TAG, Instance
from remediator.ec2 import Address, Aws
from remediator.launch import LIVE
from remediator.metrics import Metrics
from remediator.model import Bot, Run
from remediator.rounds import repeat
from remediator.store import Store
from remediator.volumes import Volume

FACT: Final = "orphans"  # id → when it was first seen to be one


@dataclass(frozen=True, slots=True)
class Orphan:
    kind: Literal["instance", "volume", "address"]
    id: str
    state: str
    bot: str  # of its tag
    deployment: str  # of its tag
    since: float  # Unix seconds: when it was first seen to be one


@dataclass(frozen=True, slots=True)
class Fleet:
    """What AWS has under our tag."""

    instances: Sequence[Instance]
    volumes: Sequence[Volume]
    addresses: Sequence[Address]


def orphans(
    fleet: Fleet, bots: Sequence[Bot], active: Sequence[Run], first_seen: Mapping[str, float], now: float
) -> list[Orphan]:
    """A run claims what carries its tag, and all that carries its bot's name, for as long as it is active."""
    claimed = {id_ for bot in bots for id_ in (bot.instance_id, bot.standby_instance_id, bot.allocation_id)}
    runs, busy = {run.id for run in active}, {run.bot for run in active}
    seen: list[tuple[Literal["instance", "volume", "address"], str, str, Mapping[str, str]]] = []
    seen += [("instance", one.id, one.state, one.tags) for one in fleet.instances if one.state in LIVE]
    seen += [("volume", one.id, one.state, one.tags) for one in fleet.volumes if one.state == "available"]
    seen += [
        ("address", one.allocation_id, "associated" if one.instance_id else "idle", one.tags)
        for one in fleet.addresses
    ]
    return [
        Orphan(kind, id_, state, bot, deployment, first_seen.get(id_, now))
        for kind, id_, state, tags in seen
        for bot, deployment in [(tags.get(BOT_TAG, ""), tags.get(DEPLOYMENT_TAG, ""))]
        if id_ not in claimed and deployment not in runs and bot not in busy
    ]


@dataclass(frozen=True, slots=True)
class OrphanWatch:
    store: Store
    aws: Aws
    metrics: Metrics

    async def look(self) -> list[Orphan]:
        """Those there are. AWS is asked first: what is launched meanwhile is claimed by its run by then."""
        fleet = Fleet(
            list((await self.aws.instances()).values()),
            await self.aws.volumes(),
            await self.aws.addresses(),
        )
        async with self.store.write() as tx:
            before: dict[str, float] = await tx.fact(FACT) or {}
            found = orphans(fleet, await tx.bots(), await tx.active_runs(), before, tx.now)
            now = {orphan.id: orphan.since for orphan in found}
            if now != before:
                await tx.set_fact(FACT, now)
            for orphan in found:
                if orphan.id not in before:
                    await tx.audit("orphan.seen", bot=orphan.bot, kind=orphan.kind, id=orphan.id)
        self.metrics.orphans.set(sum(orphan.kind == "instance" for orphan in found))
        return found

    async def serve(self, interval: float) -> None:
        """Until cancelled."""
        await repeat(self.look, interval, "orphans not looked for")
