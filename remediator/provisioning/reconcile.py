"""What differs of a bot from its declaration is put right: in place where it can be, else by a redeploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_attributes import METADATA_OPTIONS
from remediator.configuration.drift import Difference
from remediator.configuration.drift_detector import DriftDetector
from remediator.errors import Refused
from remediator.model import Bot, Run
from remediator.monitoring.prober import Prober
from remediator.provisioning import blue_green
from remediator.provisioning.idle import bot_named, free_bot, require_active, require_untouched
from remediator.settings import Settings
from remediator.store.errors import ConflictError
from remediator.store.store import Store
from remediator.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of each difference, in their order, and the redeploy for those that take one."""

    outcomes: Sequence[str]
    run: Run | None


@dataclass(frozen=True, slots=True)
class Reconciler:
    """Inspects one bot, and puts right what differs."""

    store: Store
    aws: Aws
    prober: Prober
    settings: Settings

    async def inspect(self, bot: Bot) -> list[Difference]:
        """Return what differs, all read anew; raise Refused (unavailable) where AWS cannot be asked."""
        try:
            return await self._detector().inspect(bot)
        except AwsError as error:
            raise Refused(
                "unavailable",
                f"its instance cannot be looked at: {error}",
                field="bot",
                remedy="see to it that this service may call EC2, then ask again",
            ) from None

    async def put_right(self, bot: Bot, differences: Sequence[Difference], actor: str) -> Reconciled:
        """Put each of the differences right; drive the run, where there is one.

        Raise Refused where a run is at work on the bot.
        """
        async with self.store.write() as tx:
            await untouched_bot(tx, bot.name)
            plan = [difference.view() for difference in differences]
            await tx.audit("reconcile.asked", bot=bot.name, actor=actor, plan=plan)
        outcomes = [await self._put_right(bot, difference, actor) for difference in differences]
        disruptive = [difference.field for difference in differences if difference.disruptive]
        if disruptive:
            reason = f"it drifted: {', '.join(disruptive)}"
            return Reconciled(outcomes, await self._redeploy(bot.name, actor, reason))
        await self._detector().record(bot, await self.inspect(bot))
        return Reconciled(outcomes, None)

    def _detector(self) -> DriftDetector:
        """Return a detector that remembers nothing, and so reads all there is."""
        return DriftDetector(self.store, self.aws, self.prober, self.settings)

    async def _put_right(self, bot: Bot, difference: Difference, actor: str) -> str:
        """Return what became of a difference. A disruptive one is left to the redeploy that follows."""
        if difference.remedy in ("redeploy", "person"):
            return "redeploys" if difference.remedy == "redeploy" else "not touched"
        try:
            await self._change_instance(bot, difference)
        except AwsError as error:
            outcome, event = f"failed: {error}", "reconcile.failed"
        else:
            outcome, event = "done", "reconcile.done"
        facts: dict[str, Any] = {
            "field": difference.field,
            "was": difference.real,
            "wanted": difference.stored,
            "instance": bot.instance_id,
            "outcome": outcome,
        }
        async with self.store.write() as tx:
            await tx.audit(event, bot=bot.name, actor=actor, **facts)
        return outcome

    async def _change_instance(self, bot: Bot, difference: Difference) -> None:
        instance_id, stored = bot.instance_id, difference.stored
        match difference.remedy:
            case "tag":
                await self.aws.tag(instance_id, stored)
            case "set groups":
                await self.aws.set_security_groups(instance_id, stored)
            case "set metadata options":
                await self.aws.set_metadata_options(instance_id, {**METADATA_OPTIONS, **stored})

    async def _redeploy(self, name: str, actor: str, reason: str) -> Run:
        """Begin a redeploy with the configuration that is live, not with one that waits."""
        try:
            async with self.store.write() as tx:
                bot = await free_bot(tx, name, actor)
                version = bot.version or None
                return await blue_green.begin(
                    self.settings, tx, bot, version=version, actor=actor, reason=reason
                )
        except ConflictError:
            raise Refused("conflict", f"a run of {name!r} has just begun", field="bot") from None


async def untouched_bot(tx: Transaction, name: str) -> Bot:
    """Return the bot; Refused where a run is at work on it: it may differ for good reasons then.

    A recovery that waits goes on waiting beside what needs no redeploy.
    """
    bot = await bot_named(tx, name)
    await require_untouched(tx, bot)
    require_active(bot)
    return bot
