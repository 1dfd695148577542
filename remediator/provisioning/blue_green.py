"""A bot's new instance beside its old one: proved before the bot moves to it, and the way back kept open.

    plan → reserved → image, launch, running, healthy (config_sha, N times) → address
         → stopped → activated → moved → soaked → kept

Until `stopped` the old instance serves, and a failure ends the candidate and leaves the old one alone. The
old one is stopped before the candidate may use the token (see remediator.provisioning.cutover). A failure
after that goes back: moved back → clean up → reserved again → started again. The bot's version and
configuration change when it moves and at no other time. The old instance is kept, stopped, and is terminated
after the rollback window.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.instance_waiter import InstanceWaiter
from remediator.aws.tags import ROLE_TAG
from remediator.configuration.versions import live
from remediator.engine.journal import Done, Failed, Journal, Outcome
from remediator.errors import Refused
from remediator.model import Bot, Ended, Run
from remediator.monitoring.prober import Prober, Reject
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.idle import require_active, require_idle
from remediator.provisioning.instance_stop import stop_instance
from remediator.provisioning.launcher import Launcher
from remediator.provisioning.verification import Soak, verify_bot
from remediator.settings import Settings
from remediator.store.lease import Lease
from remediator.store.store import Store
from remediator.store.transaction import Transaction

LOCATION: Final = ("instance_id", "address", "boot_id", "started_at", "zone", "allocation_id")
CONFIGURATION: Final = ("version", "config", "config_sha", "overrides", "health_path", "mesh_path")


async def begin(
    settings: Settings, tx: Transaction, bot: Bot, *, version: int | None, actor: str, reason: str
) -> Run:
    """Begin the redeploy of a bot with that version of its configuration (None: the newest).

    Drive the run after the transaction's commit. Raise Refused where another run has the bot, or it has no
    such version.
    """
    await require_idle(tx, bot)
    require_active(bot)
    becomes = await _configuration(tx, bot, version)
    run = await tx.add_run(Run.begin("redeploy", bot=bot.name, reason=reason, at=tx.now))
    plan = {
        "was": _columns(bot, *LOCATION, *CONFIGURATION),
        "becomes": becomes,
        "soak": settings.soak_window,
        "rollback": settings.rollback_window,
    }
    await tx.add_step(run.id, "plan", plan)
    beside = f"beside {bot.instance_id}" if bot.instance_id else "as its first instance"
    detail = f"version {becomes['version']} {beside}: {reason}"
    await tx.change_step(run.id, "plan", state="done", detail=detail, finished_at=tx.now)
    await tx.audit(
        "redeploy.asked", bot=bot.name, run_id=run.id, actor=actor, version=becomes["version"], reason=reason
    )
    return run


async def _configuration(tx: Transaction, bot: Bot, number: int | None) -> dict[str, Any]:
    """Return the bot's columns that hold its configuration, as of that version, or raise Refused."""
    version = await tx.version(bot.name, number)
    if version is not None:
        return live(version)
    if number is None:
        return _columns(bot, *CONFIGURATION)
    raise Refused(
        "invalid",
        f"{bot.name!r} has no version {number}",
        field="version",
        remedy=f"GET /bots/{bot.name}/versions lists them",
    )


def _columns(bot: Bot, *names: str) -> dict[str, Any]:
    return {name: getattr(bot, name) for name in names}


@dataclass(frozen=True, slots=True)
class BlueGreen:
    """Drives one redeploy; goes on where it was after a crash."""

    store: Store
    aws: Aws
    waiter: InstanceWaiter
    prober: Prober
    launcher: Launcher
    cutover: Cutover
    settings: Settings
    soak: Soak

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        """Drive the run to its end: the bot on its new instance, or on its old one as before."""
        journal = Journal(self.store, run, lease)
        plan = (await journal.steps())["plan"].request
        old, new = replace(bot, **plan["was"]), replace(bot, **plan["becomes"])
        outcome = await self._forward(journal, plan, old, new)
        if isinstance(outcome, Done):
            return Ended("deployed", outcome.detail)
        return Ended("failed", f"{outcome.reason}; {await self._back(journal, old, outcome.reason)}")

    async def _forward(self, journal: Journal, plan: Mapping[str, Any], old: Bot, new: Bot) -> Outcome:
        reserved = await self.cutover.reserve(journal, old)
        if isinstance(reserved, Failed):
            return reserved
        candidate = await self.launcher.bring_up(journal, new, "candidate")
        if isinstance(candidate, Failed):
            return candidate
        address = await self.cutover.address(journal, old)
        if isinstance(address, Failed):
            return address
        # From here until it is moved, the bot is not there.
        patience = self.settings.redeploy_timeout
        stopped = await stop_instance(journal, self.aws, self.waiter, old.instance_id, patience)
        if isinstance(stopped, Failed):
            return stopped
        activated = await self.cutover.activate(journal, new, candidate.result["instance_id"])
        if isinstance(activated, Failed):
            return activated
        standby = "" if stopped.result.get("gone") else old.instance_id
        moved = await self.cutover.move(
            journal, new, candidate.result, address.result, standby=standby, becomes=plan["becomes"]
        )
        if isinstance(moved, Failed):
            return moved
        soaked = await self._soak(journal, new, plan["soak"])
        if isinstance(soaked, Failed):
            return soaked
        standby_detail = await self._keep(journal, standby, plan["rollback"])
        return Done({}, f"version {new.version} on {moved.detail}; {standby_detail}")

    async def _soak(self, journal: Journal, new: Bot, window: float) -> Outcome:
        """See that the bot is well, at its registered address and with its configuration, for `window` s.

        Its token is its own by now, so it has to hear, and to work, as far as that is known.
        """
        works = self.soak(new, window)

        async def soak(request: Mapping[str, Any]) -> Outcome:
            async with self.store.read() as tx:
                bot = await tx.bot(new.name)
            address = bot.address if bot is not None else ""
            left = max(0.0, request["until"] - self.store.clock())
            return await self._well(new, address, self.settings.restart_timeout, left, works)

        until = self.store.clock() + window
        return await journal.step("soaked", soak, request={"until": until})

    async def _well(
        self, bot: Bot, address: str, patience: float, window: float = 0, works: Reject | None = None
    ) -> Outcome:
        outcome = await verify_bot(self.prober, bot, address, patience, window=window, works=works)
        return Failed(f"not well at {address}: {outcome.reason}") if isinstance(outcome, Failed) else outcome

    async def _keep(self, journal: Journal, instance_id: str, window: float) -> str:
        """Keep the old instance for `window` seconds; return what becomes of it, in words.

        A tag that could not be changed is no reason to go back.
        """
        if not instance_id:
            return "there is no instance to go back to"

        async def keep(request: Mapping[str, Any]) -> Outcome:
            async with self.store.write_as(journal.lease) as tx:
                await tx.change_bot(journal.run.bot, standby_until=request["until"])
            await self.aws.tag(instance_id, {ROLE_TAG: "standby"})
            return Done({}, f"{instance_id} is kept, stopped, for {window:.0f} s")

        until = self.store.clock() + window
        outcome = await journal.step("kept", keep, request={"until": until})
        return (
            outcome.detail if isinstance(outcome, Done) else f"{instance_id} is kept, but: {outcome.reason}"
        )

    # the way back

    async def _back(self, journal: Journal, old: Bot, reason: str) -> str:
        """Make the old instance the bot again, wherever the run stands; return what was done, in words."""
        steps = await journal.steps()
        deadline = self.store.clock() + self.settings.redeploy_timeout
        if "moved" in steps:
            columns = _columns(old, *LOCATION, *CONFIGURATION)
            columns |= {"standby_instance_id": "", "standby_until": None}
            back = await self.cutover.register(journal, "moved back", columns)
            if isinstance(back, Failed):
                return f"it could not be moved back: {back.reason}"
        cleaned = await self.launcher.clean_up(journal, reason)
        if "stopped" not in steps or not old.instance_id:
            return f"{cleaned}; the old instance was left alone"
        clean_up = (await journal.steps()).get("clean up")
        if clean_up is not None and clean_up.state == "failed" and "activated" in steps:
            return f"{cleaned}; the old instance stays stopped, because two would use one token"
        outcome = await self.cutover.reserve_again(journal, old, deadline)
        if isinstance(outcome, Done):
            outcome = await self._start(journal, old, deadline)
        if isinstance(outcome, Failed):
            return f"{cleaned}; the old instance did not come back: {outcome.reason}"
        return f"{cleaned}; it is back on {old.instance_id}"

    async def _start(self, journal: Journal, old: Bot, deadline: float) -> Outcome:
        """Start the old instance, which may have another public address now, and see that its bot is well."""
        patience = self.settings.redeploy_timeout

        async def start(_: Mapping[str, Any]) -> Outcome:
            await self.aws.start(old.instance_id, journal.lease.check)
            instance = await self.waiter.wait_for(old.instance_id, ("running", "terminated"), patience)
            if isinstance(instance, AwsError):
                return Failed(str(instance))
            if instance is None or instance.state != "running":
                return Failed(f"{old.instance_id} did not start in {patience:.0f} s")
            address = f"{instance.address(self.settings.address)}:{old.config['probe']['port']}"
            async with self.store.write_as(journal.lease) as tx:
                await tx.change_bot(old.name, address=address)
            outcome = await self._well(old, address, patience)
            if isinstance(outcome, Done):
                async with self.store.write_as(journal.lease) as tx:
                    await tx.change_bot(old.name, **outcome.result)
            return outcome

        return await journal.step("started again", start, deadline=deadline)
