"""After a restore: the registry is compared with EC2 before anything is done by it.

A backup is of the past. What was launched, moved or terminated since is in EC2's tags and nowhere else. Where
they are clear they are believed; where they are not, the bot is left to a person.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Final, Literal

import structlog

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance
from remediator.aws.tags import BOT_TAG, DEPLOYMENT_TAG, PREFIX, ROLE_TAG
from remediator.backup.restore import RESTORED
from remediator.model import Bot, Run
from remediator.periodic import BACKOFF
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from remediator.timestamps import iso

log = structlog.get_logger()

# Kinds of runs that an active instance with their tag proves to have come to their end, and which end.
ENDS: Final = {"deploy": "deployed", "redeploy": "deployed", "adopt": "adopted"}
GONE: Final = ("terminated", "shutting-down")
UNKNOWN: Final = "restored from a backup: what it had come to since is not known"


class NotComparedError(Exception):
    """EC2 cannot be asked, so nothing can be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What EC2 says of a bot. `same`: its instance is the one that is registered."""

    bot: str
    kind: Literal["same", "adopted", "gone", "unclear", "never deployed"]
    instance: Instance | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The registry beside EC2."""

    findings: Sequence[Finding]
    orphans: Sequence[Instance]  # live, and of no bot here
    proved: Mapping[str, str]  # run id → the instance that shows that it came to its end


def compare(bots: Iterable[Bot], runs: Iterable[Run], instances: Mapping[str, Instance]) -> Comparison:
    """Compare bots, and runs that had not ended, with all instances that are tagged as ours. Pure."""
    live = {key: instance for key, instance in instances.items() if instance.state not in GONE}
    by_bot: dict[str, list[Instance]] = defaultdict(list)
    for instance in live.values():
        by_bot[instance.tags.get(BOT_TAG, "")].append(instance)
    findings = [_compare_bot(bot, by_bot[bot.name], live.get(bot.instance_id)) for bot in bots]
    claimed = {finding.instance.id for finding in findings if finding.instance is not None}
    claimed |= {bot.standby_instance_id for bot in bots if _has_standby(bot, live)}
    proved = {
        run.id: finding.instance.id
        for run in runs
        for finding in findings
        if run.kind in ENDS
        and finding.bot == run.bot
        and finding.instance is not None
        and finding.instance.tags.get(DEPLOYMENT_TAG) == run.id
        and _role(finding.instance) == "active"
    }
    orphans = [instance for key, instance in sorted(live.items()) if key not in claimed]
    return Comparison(findings, orphans, proved)


def _role(instance: Instance) -> str:
    return instance.tags.get(ROLE_TAG, "")


def _has_standby(bot: Bot, instances: Mapping[str, Instance]) -> bool:
    """Return whether its former instance is still there for a rollback."""
    standby = instances.get(bot.standby_instance_id)
    return standby is not None and _role(standby) == "standby"


def _compare_bot(bot: Bot, tagged: Sequence[Instance], registered: Instance | None) -> Finding:
    """Find the instance that the tags call active; the registered one where they call none so."""
    active = [instance for instance in tagged if _role(instance) == "active"]
    if registered is not None and active in ([], [registered]):
        return Finding(bot.name, "same", registered)
    if len(active) == 1:
        was = f"was {bot.instance_id}" if bot.instance_id else "it was being deployed"
        return Finding(bot.name, "adopted", active[0], was)
    if active:
        ids = ", ".join(sorted(instance.id for instance in active))
        return Finding(bot.name, "unclear", None, f"{ids} are all tagged as its active instance")
    if bot.state == "deploying":
        return Finding(bot.name, "never deployed", None, "its deployment had not come to its end")
    return Finding(bot.name, "gone", None, f"{bot.instance_id or 'its instance'} is not there any more")


async def reconcile_after_restore(store: Store, aws: Aws, settings: Settings) -> None:
    """Compare the registry with EC2, once after each restore and before any run is driven.

    Raise NotComparedError where EC2 cannot be asked.
    """
    async with store.read() as tx:
        if not _is_due(await tx.fact(RESTORED)):
            return
    instances, addresses = await _read_ec2(aws)
    async with store.write() as tx:
        restored = await tx.fact(RESTORED)
        if not _is_due(restored):  # another replica was faster
            return
        bots, runs = await tx.bots(), await tx.active_runs()
        comparison = compare(bots, runs, instances)
        for bot, finding in zip(bots, comparison.findings, strict=True):
            location = _location(bot, finding, addresses, public=settings.address == "public")
            await _reconcile(tx, bot, finding, location, has_standby=_has_standby(bot, instances))
        await _end(tx, runs, comparison)
        for orphan in comparison.orphans:
            tags = {key: value for key, value in orphan.tags.items() if key.startswith(PREFIX)}
            await tx.audit("restored.orphan", bot="", instance=orphan.id, state=orphan.state, tags=tags)
        names = {kind: [item.bot for item in comparison.findings if item.kind == kind] for kind in SUMMARIES}
        text = _message(restored, names, comparison, len(runs))
        await tx.notify("", text)
        await tx.audit("restored.compared", same=len(names["same"]), said=text)
        await tx.set_fact(RESTORED, {**restored, "reconciledAt": tx.now})
    log.warning("the restored registry was compared with EC2", said=text)


def _is_due(restored: Any) -> bool:
    return restored is not None and restored["reconciledAt"] is None


async def _read_ec2(aws: Aws) -> tuple[dict[str, Instance], dict[str, str]]:
    """Return all instances of ours, and the Elastic IP (allocation id) of each that has one."""
    for pause in chain(BACKOFF, repeat(None)):
        try:
            addresses = {address.instance_id: address.allocation_id for address in await aws.addresses()}
            return await aws.instances(), addresses
        except AwsError as error:
            if pause is None or error.kind == "denied":
                log.error("not compared with EC2, so nothing is done", error=str(error))
                raise NotComparedError(str(error)) from None
            log.warning("aws is away", error=str(error), next_try_seconds=pause)
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")


def _location(
    bot: Bot, finding: Finding, addresses: Mapping[str, str], *, public: bool
) -> dict[str, str | None]:
    """Return the columns that say where an adopted bot is; {} where it is where it was."""
    instance = finding.instance
    if finding.kind != "adopted" or instance is None:
        return {}
    host = instance.public_address if public else instance.private_address
    port = bot.address.rpartition(":")[2] or bot.config["probe"]["port"]
    return {
        "instance_id": instance.id,
        "zone": instance.zone,
        "address": f"{host}:{port}",
        "allocation_id": addresses.get(instance.id, ""),
        "boot_id": None,
        "started_at": None,
    }


async def _reconcile(
    tx: Transaction, bot: Bot, finding: Finding, location: Mapping[str, Any], *, has_standby: bool
) -> None:
    """Write down where the bot is now, or leave it to a person."""
    changes: dict[str, Any] = {**location}
    if bot.standby_instance_id and not has_standby:
        changes |= {"standby_instance_id": "", "standby_until": None}  # never terminated by this name
    if bot.state != "active":  # no run goes on with what it was about to be
        changes |= {"state": "active"}
    match finding.kind:
        case "gone" | "unclear":
            reason = f"restored from a backup: {finding.reason}"
            changes |= {"quarantined_at": tx.now, "quarantine_reason": reason}
        case "never deployed":
            await tx.remove_bot(bot.name)
            changes = {}
    if changes:
        await tx.change_bot(bot.name, **changes)
    if changes or finding.kind != "same":
        event = f"restored.{finding.kind.replace(' ', '_')}"
        detail = {name: value for name, value in changes.items() if value is not None}
        await tx.audit(event, bot=bot.name, why=finding.reason, **detail)


async def _end(tx: Transaction, runs: Iterable[Run], comparison: Comparison) -> None:
    """End every run and rollout of the past: what it did since the backup is not in its journal."""
    for run in runs:
        instance = comparison.proved.get(run.id)
        status, reason = "cancelled", UNKNOWN
        if instance is not None:
            status, reason = ENDS[run.kind], f"{instance} is its, and active"
        await tx.change_run(run.id, status=status, reason=reason, finished_at=tx.now)
        await tx.audit(f"run.{status}", bot=run.bot, run_id=run.id, kind=run.kind, why=reason)
    await tx.cancel_rollouts(UNKNOWN)


SUMMARIES: Final = {
    "same": "as they were",
    "adopted": "moved to the instance that EC2's tags name",
    "gone": "in quarantine, because their instance is gone",
    "unclear": "in quarantine, because more than one instance is tagged as theirs",
    "never deployed": "removed: their deployment had not ended",
}


def _message(
    restored: Mapping[str, Any], bots: Mapping[str, Sequence[str]], comparison: Comparison, runs: int
) -> str:
    lines = [f"💾 Restored from a backup of {iso(restored['takenAt'])}, and compared with EC2."]
    for kind, names in bots.items():
        listed = "" if kind == "same" else f": {', '.join(names[:20])}"
        lines += [f"{len(names)} bots {SUMMARIES[kind]}{listed}"] if names else []
    if runs:
        lines.append(f"{runs} runs ended, {len(comparison.proved)} of them with proof that they were done")
    if comparison.orphans:
        ids = ", ".join(instance.id for instance in comparison.orphans[:20])
        lines.append(f"{len(comparison.orphans)} instances belong to no bot here: {ids}")
    return "\n".join(lines)
