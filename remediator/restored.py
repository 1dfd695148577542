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
from sqlalchemy import update

from remediator import views
from remediator.ec2 import Aws, AwsError, Instance
from remediator.model import Bot, Run
from remediator.restore import RESTORED
from remediator.schema import rollouts
from remediator.settings import Settings
from remediator.store import Store
from remediator.transaction import Transaction

log = structlog.get_logger()

TAG: Final = "bot-orchestrator"
# Kinds of runs that an active instance with their tag proves to have come to their end, and which end.
ENDS: Final = {"deploy": "deployed", "redeploy": "deployed", "adopt": "adopted"}
GONE: Final = ("terminated", "shutting-down")
PAUSES: Final = (0.5, 1, 2, 4, 8)  # seconds between questions to an AWS that is away
WHY: Final = "restored from a backup: what it had come to since is not known"


class NotComparedError(Exception):
    """EC2 cannot be asked, so nothing can be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What EC2 says of one bot. `same`: its instance is the one that is registered."""

    bot: str
    what: Literal["same", "adopted", "gone", "unclear", "never deployed"]
    instance: Instance | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    findings: Sequence[Finding]
    orphans: Sequence[Instance]  # live, and of no bot here
    proved: Mapping[str, str]  # run id → the instance that shows that it came to its end


def compare(bots: Iterable[Bot], runs: Iterable[Run], instances: Mapping[str, Instance]) -> Comparison:
    """`runs` are those that had not ended, `instances` all that are tagged as ours. Pure."""
    live = {key: one for key, one in instances.items() if one.state not in GONE}
    of_bot: dict[str, list[Instance]] = defaultdict(list)
    for one in live.values():
        of_bot[one.tags.get(f"{TAG}:bot", "")].append(one)
    found = [_find(bot, of_bot[bot.name], live.get(bot.instance_id)) for bot in bots]
    known = {finding.instance.id for finding in found if finding.instance is not None}
    known |= {bot.standby_instance_id for bot in bots if _stands_by(bot, live)}
    proved = {
        run.id: finding.instance.id
        for run in runs
        for finding in found
        if run.kind in ENDS
        and finding.bot == run.bot
        and finding.instance is not None
        and finding.instance.tags.get(f"{TAG}:deployment") == run.id
        and _role(finding.instance) == "active"
    }
    return Comparison(found, [one for key, one in sorted(live.items()) if key not in known], proved)


def _role(instance: Instance) -> str:
    return instance.tags.get(f"{TAG}:role", "")


def _stands_by(bot: Bot, instances: Mapping[str, Instance]) -> bool:
    """Whether its old instance is still kept for the way back."""
    standby = instances.get(bot.standby_instance_id)
    return standby is not None and _role(standby) == "standby"


def _find(bot: Bot, mine: Sequence[Instance], registered: Instance | None) -> Finding:
    """The instance that the tags call active; the registered one where they call none so."""
    active = [one for one in mine if _role(one) == "active"]
    if registered is not None and active in ([], [registered]):
        return Finding(bot.name, "same", registered)
    if len(active) == 1:
        was = f"was {bot.instance_id}" if bot.instance_id else "it was being deployed"
        return Finding(bot.name, "adopted", active[0], was)
    if active:
        ids = ", ".join(sorted(one.id for one in active))
        return Finding(bot.name, "unclear", None, f"{ids} are all tagged as its active instance")
    if bot.state == "deploying":
        return Finding(bot.name, "never deployed", None, "its deployment had not come to its end")
    return Finding(bot.name, "gone", None, f"{bot.instance_id or 'its instance'} is not there any more")


async def compare_if_restored(store: Store, aws: Aws, settings: Settings) -> None:
    """Once after each restore, before anything is driven. NotComparedError where EC2 cannot be asked."""
    async with store.read() as tx:
        if not _is_due(await tx.fact(RESTORED)):
            return
    instances, addresses = await _asked(aws)
    async with store.write() as tx:
        restored = await tx.fact(RESTORED)
        if not _is_due(restored):  # another replica was faster
            return
        bots, runs = await tx.bots(), await tx.active_runs()
        comparison = compare(bots, runs, instances)
        for bot, finding in zip(bots, comparison.findings, strict=True):
            place = _place(bot, finding, addresses, public=settings.address == "public")
            await _settle(tx, bot, finding, place, stands_by=_stands_by(bot, instances))
        await _end(tx, runs, comparison)
        for orphan in comparison.orphans:
            tags = {key: value for key, value in orphan.tags.items() if key.startswith(TAG)}
            await tx.audit("restored.orphan", bot="", instance=orphan.id, state=orphan.state, tags=tags)
        counts = {what: [one.bot for one in comparison.findings if one.what == what] for what in _SAID}
        text = _message(restored, counts, comparison, len(runs))
        await tx.notify("", text)
        await tx.audit("restored.compared", same=len(counts["same"]), said=text)
        await tx.set_fact(RESTORED, {**restored, "reconciledAt": tx.now})
    log.warning("the restored registry was compared with EC2", said=text)


def _is_due(restored: Any) -> bool:
    return restored is not None and restored["reconciledAt"] is None


async def _asked(aws: Aws) -> tuple[dict[str, Instance], dict[str, str]]:
    """All instances of ours, and the Elastic IP (allocation id) of each that has one."""
    for pause in chain(PAUSES, repeat(None)):
        try:
            addresses = {one.instance_id: one.allocation_id for one in await aws.addresses()}
            return await aws.instances(), addresses
        except AwsError as error:
            if pause is None or error.kind == "denied":
                log.error("not compared with EC2, so nothing is done", error=str(error))
                raise NotComparedError(str(error)) from None
            log.warning("aws is away", error=str(error), next_try_seconds=pause)
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")


def _place(
    bot: Bot, finding: Finding, addresses: Mapping[str, str], *, public: bool
) -> dict[str, str | None]:
    """The columns that say where an adopted bot is; nothing where it is where it was."""
    instance = finding.instance
    if finding.what != "adopted" or instance is None:
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


async def _settle(
    tx: Transaction, bot: Bot, finding: Finding, place: Mapping[str, Any], *, stands_by: bool
) -> None:
    changes: dict[str, Any] = {**place}
    if bot.standby_instance_id and not stands_by:
        changes |= {"standby_instance_id": "", "standby_until": None}  # never terminated by this name
    if bot.state != "active":  # no run goes on with what it was about to be
        changes |= {"state": "active"}
    match finding.what:
        case "gone" | "unclear":
            reason = f"restored from a backup: {finding.why}"
            changes |= {"quarantined_at": tx.now, "quarantine_reason": reason}
        case "never deployed":
            await tx.remove_bot(bot.name)
            changes = {}
    if changes:
        await tx.change_bot(bot.name, **changes)
    if changes or finding.what != "same":
        event = f"restored.{finding.what.replace(' ', '_')}"
        shown = {name: value for name, value in changes.items() if value is not None}
        await tx.audit(event, bot=bot.name, why=finding.why, **shown)


async def _end(tx: Transaction, runs: Iterable[Run], comparison: Comparison) -> None:
    """No run of the past is gone on with: what it did since the backup is not in its journal."""
    for run in runs:
        instance = comparison.proved.get(run.id)
        status, why = (ENDS[run.kind], f"{instance} is its, and active") if instance else ("cancelled", WHY)
        await tx.change_run(run.id, status=status, reason=why, finished_at=tx.now)
        await tx.audit(f"run.{status}", bot=run.bot, run_id=run.id, kind=run.kind, why=why)
    under_way = rollouts.c.finished_at.is_(None)
    await tx.execute(
        update(rollouts).where(under_way).values(status="cancelled", why=WHY, finished_at=tx.now)
    )


_SAID: Final = {
    "same": "as they were",
    "adopted": "moved to the instance that EC2's tags name",
    "gone": "in quarantine, because their instance is gone",
    "unclear": "in quarantine, because more than one instance is tagged as theirs",
    "never deployed": "removed: their deployment had not ended",
}


def _message(
    restored: Mapping[str, Any], counts: Mapping[str, Sequence[str]], comparison: Comparison, runs: int
) -> str:
    lines = [f"💾 Restored from a backup of {views.iso(restored['takenAt'])}, and compared with EC2."]
    for what, names in counts.items():
        shown = "" if what == "same" else f": {', '.join(names[:20])}"
        lines += [f"{len(names)} bots {_SAID[what]}{shown}"] if names else []
    if runs:
        lines.append(f"{runs} runs ended, {len(comparison.proved)} of them with proof that they were done")
    if comparison.orphans:
        ids = ", ".join(one.id for one in comparison.orphans[:20])
        lines.append(f"{len(comparison.orphans)} instances belong to no bot here: {ids}")
    return "\n".join(lines)
