"""Resources that carry our tag, and cost, and that no bot and no run claims."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from remediator.aws.aws import Aws
from remediator.aws.client import no_lease
from remediator.aws.elastic_ips import Address
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance
from remediator.aws.tags import BOT_TAG, DEPLOYMENT_TAG
from remediator.aws.volumes import Volume
from remediator.model import Bot, Run
from remediator.periodic import run_every
from remediator.provisioning.launcher import LIVE
from remediator.store.store import Store
from remediator.store.transaction import Transaction

FACT: Final = "orphans"  # id → since when it is one

Kind = Literal["instance", "volume", "address"]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A resource that nobody claims."""

    kind: Kind
    id: str
    state: str
    bot: str  # of its tag
    deployment: str  # of its tag
    since: float  # Unix seconds: when it was first found to be one


@dataclass(frozen=True, slots=True)
class TaggedResources:
    """The resources that carry our tag."""

    instances: Sequence[Instance]
    volumes: Sequence[Volume]
    addresses: Sequence[Address]

    def costing(self) -> Iterator[tuple[Kind, str, str, Mapping[str, str]]]:
        """Yield (kind, id, state, tags) of what costs by itself; a volume in use ends with its instance."""
        for instance in self.instances:
            if instance.state in LIVE:
                yield "instance", instance.id, instance.state, instance.tags
        for volume in self.volumes:
            if volume.state == "available":
                yield "volume", volume.id, volume.state, volume.tags
        for address in self.addresses:
            state = "associated" if address.instance_id else "idle"
            yield "address", address.allocation_id, state, address.tags


def orphans(
    resources: TaggedResources,
    bots: Sequence[Bot],
    active: Sequence[Run],
    since: Mapping[str, float],
    now: float,
) -> list[Orphan]:
    """Return the orphans; `since`: id → Unix time at which it was first found to be one.

    A run claims what carries its tag, and all that carries its bot's name, for as long as it is active.
    """
    claimed = {id_ for bot in bots for id_ in (bot.instance_id, bot.standby_instance_id, bot.allocation_id)}
    runs, busy = {run.id for run in active}, {run.bot for run in active}
    return [
        Orphan(kind, id_, state, bot, deployment, since.get(id_, now))
        for kind, id_, state, tags in resources.costing()
        for bot, deployment in [(tags.get(BOT_TAG, ""), tags.get(DEPLOYMENT_TAG, ""))]
        if id_ not in claimed and deployment not in runs and bot not in busy
    ]


async def orphan_instances(tx: Transaction) -> int:
    """Return how many instances nobody claimed at the last look, told from the rest by their ids."""
    return sum(id_.startswith("i-") for id_ in await tx.fact(FACT) or {})


@dataclass(frozen=True, slots=True)
class OrphanDetector:
    """Finds orphans, and remembers since when each is one."""

    store: Store
    aws: Aws

    async def detect(self) -> list[Orphan]:
        """Return the orphans there are. Raises AwsError.

        AWS is asked before the store: what is launched meanwhile is claimed by its run by then.
        """
        resources = TaggedResources(
            list((await self.aws.instances()).values()),
            await self.aws.volumes(),
            await self.aws.addresses(),
        )
        async with self.store.write() as tx:
            before: dict[str, float] = await tx.fact(FACT) or {}
            current = orphans(resources, await tx.bots(), await tx.active_runs(), before, tx.now)
            since = {orphan.id: orphan.since for orphan in current}
            if since != before:
                await tx.set_fact(FACT, since)
            for orphan in current:
                if orphan.id not in before:
                    await tx.audit("orphan.seen", bot=orphan.bot, kind=orphan.kind, id=orphan.id)
        return current

    async def serve(self, interval: float) -> None:
        """Detect orphans every `interval` seconds, until cancelled."""
        await run_every(self.detect, interval, "orphans not looked for")


async def reap(store: Store, aws: Aws, orphan: Orphan, actor: str) -> str:
    """End the orphan, once that is in the trail; return why AWS did not and what helps, or ""."""
    end = {"instance": aws.terminate, "volume": aws.delete_volume, "address": aws.release_address}
    async with store.write() as tx:
        await tx.audit("orphan.reap", bot=orphan.bot, actor=actor, kind=orphan.kind, id=orphan.id)
    try:
        await end[orphan.kind](orphan.id, no_lease)
    except AwsError as error:
        return error.with_remedy
    return ""
