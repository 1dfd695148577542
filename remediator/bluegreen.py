"""A bot's new instance beside its old one: proved before the bot moves to it, and the way back kept open.

    plan → reserved → image, launch, running, healthy (config_sha, N times) → address
         → stopped → activated → moved → soaked → kept

Until `stopped` the old instance serves, and a failure ends the candidate and leaves the old one alone. The
old one is stopped before the candidate may use the token (see remediator.handover). A failure after that
goes back: moved back → clean up → reserved again → started again. The bot's version and configuration
change when it moves and at no other time. What was kept is terminated after the rollback window.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from remediator.ec2 import AwsError
from remediator.errors import RequestError
from remediator.handover import Handover
from remediator.journal import Done, Effect, Failed, Journal, Outcome
from remediator.launch import TAG, Launcher
from remediator.lease import Lease
from remediator.model import Bot, ConfigVersion, Ended, Run
from remediator.prober import Look
from remediator.store import Store
from remediator.transaction import Transaction
from remediator.versions import Versions, live

if TYPE_CHECKING:
    import asyncio

    from remediator.services import Services

PLACE: Final = ("instance_id", "address", "boot_id", "started_at", "zone", "allocation_id")
CONFIGURATION: Final = ("version", "config", "config_sha", "overrides", "health_path", "mesh_path")


async def begin(
    services: "Services", tx: Transaction, bot: Bot, *, version: int | None, actor: str, reason: str
) -> Run:
    """Begin the redeploy of a bot with that version of its configuration (None: the newest), on disk.

    Drive the run once the transaction is kept. RequestError 409 where the bot is in other hands.
    """
    active = await tx.active_run(bot.name)
    if active is not None or bot.state != "active":
        hands = f"in the hands of {active.id} ({active.status})" if active is not None else bot.state
        remedy = f"GET {active.path} shows it; ask again when it has ended" if active else ""
        raise RequestError(409, f"{bot.name!r} is {hands}", field="bot", remedy=remedy)
    becomes = await _configuration(tx, bot, version)
    run_id = "red-" + secrets.token_hex(8)
    run = Run(run_id, "redeploy", bot.name, "manual", "", "running", reason, "", tx.now, None)
    run = await tx.add_run(run)
    plan = {
        "was": {key: getattr(bot, key) for key in (*PLACE, *CONFIGURATION)},
        "becomes": becomes,
        "soak": services.settings.soak_window,
        "rollback": services.settings.rollback_window,
    }
    await tx.intend(run_id, "plan", plan)
    beside = f"beside {bot.instance_id}" if bot.instance_id else "as its first instance"
    detail = f"version {becomes['version']} {beside}: {reason}"
    await tx.change_step(run_id, "plan", state="done", detail=detail, finished_at=tx.now)
    await tx.audit(
        "redeploy.asked", bot=bot.name, run_id=run_id, actor=actor, version=becomes["version"], reason=reason
    )
    return run


async def _configuration(tx: Transaction, bot: Bot, version: int | None) -> dict[str, Any]:
    """The columns of the bot that hold its configuration, as of that version."""
    found: ConfigVersion | None
    if version is not None:
        found = await Versions(tx).get(bot.name, version)
        if found is None:
            raise RequestError(
                422,
                f"{bot.name!r} has no version {version}",
                field="version",
                remedy=f"GET /bots/{bot.name}/versions lists them",
            )
    else:
        found = await Versions(tx).newest(bot.name)
    return live(found) if found is not None else {key: getattr(bot, key) for key in CONFIGURATION}


@dataclass(frozen=True, slots=True)
class BlueGreen:
    """Drives one redeploy; goes on where it was after a crash."""

    store: Store
    launcher: Launcher

    @property
    def handover(self) -> Handover:
        return Handover(self.launcher)

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: "asyncio.Event") -> Ended:
        journal = Journal(self.store, run, lease)
        plan = (await journal.steps())["plan"].request
        old, new = replace(bot, **plan["was"]), replace(bot, **plan["becomes"])
        outcome = await self._forward(journal, plan, old, new)
        if isinstance(outcome, Done):
            return Ended("deployed", outcome.detail)
        return Ended("failed", f"{outcome.why}; {await self._back(journal, old, outcome.why)}")

    async def _forward(self, journal: Journal, plan: Mapping[str, Any], old: Bot, new: Bot) -> Outcome:
        hand = self.handover
        reserved = await hand.reserve(journal, old)
        if isinstance(reserved, Failed):
            return reserved
        up = await self.launcher.bring_up(journal, new, "candidate")
        if isinstance(up, Failed):
            return up
        address = await hand.address(journal, old)
        if isinstance(address, Failed):
            return address
        stopped = await self._stop(journal, old.instance_id)
        if isinstance(stopped, Failed):
            return stopped
        activated = await hand.activate(journal, new, up.result["instance_id"])
        if isinstance(activated, Failed):
            return activated
        keep = "" if stopped.result.get("gone") else old.instance_id
        moved = await hand.move(journal, new, up.result, address.result, keep=keep, becomes=plan["becomes"])
        if isinstance(moved, Failed):
            return moved
        soaked = await self._soak(journal, new, plan["soak"])
        if isinstance(soaked, Failed):
            return soaked
        kept = await self._keep(journal, keep, plan["rollback"])
        return Done({}, f"version {new.version} on {moved.detail}; {kept}")

    async def _stop(self, journal: Journal, instance_id: str) -> Outcome:
        """From here until it is moved, the bot is not there."""
        patience = self.launcher.settings.redeploy_timeout

        async def stop(_: Mapping[str, Any]) -> Outcome:
            try:
                await self.launcher.aws.stop(instance_id, journal.lease.check)
            except AwsError as error:
                if error.kind != "gone":
                    raise
                return Done({"gone": True}, f"{instance_id or 'its old instance'} was gone already")
            found = await self.launcher.observer.wait_for(instance_id, ("stopped", "terminated"), patience)
            if found is None or isinstance(found, AwsError):
                return Failed(
                    f"{instance_id} did not stop in {patience:.0f} s{f': {found}' if found else ''}"
                )
            return Done({"gone": found.state == "terminated"}, f"{instance_id} is {found.state}")

        return await journal.step("stopped", stop, request={"instance_id": instance_id})

    async def _soak(self, journal: Journal, new: Bot, window: float) -> Outcome:
        """Well, by its registered address and with its configuration, for the whole window."""

        async def soak(request: Mapping[str, Any]) -> Outcome:
            async with self.store.read() as tx:
                bot = await tx.bot(new.name)
            address = bot.address if bot is not None else ""
            left = max(0.0, request["until"] - self.store.clock())
            return await self._well(new, address, self.launcher.settings.restart_timeout, left)

        until = self.store.clock() + window
        return await journal.step("soaked", soak, request={"until": until})

    async def _well(self, bot: Bot, address: str, patience: float, window: float = 0) -> Outcome:
        def doubt(look: Look) -> str | None:
            if look.config_sha in (None, bot.config_sha):
                return None
            return f"it runs configuration {look.config_sha}, not {bot.config_sha}"

        well, look = await self.launcher.prober.verify(bot.target(address), patience, doubt, window=window)
        result = {"boot_id": look.boot_id, "started_at": look.started_at}
        return Done(result, look.seen) if well else Failed(f"not well at {address}: {look.seen}")

    async def _keep(self, journal: Journal, instance_id: str, window: float) -> str:
        """What becomes of the old one, in words. A tag that could not be changed is no reason to go back."""
        if not instance_id:
            return "there is no instance to go back to"

        async def keep(request: Mapping[str, Any]) -> Outcome:
            async with self.store.hold(journal.lease) as tx:
                await tx.change_bot(journal.run.bot, standby_until=request["until"])
            await self.launcher.aws.tag(instance_id, {f"{TAG}:role": "standby"})
            return Done({}, f"{instance_id} is kept, stopped, for {window:.0f} s")

        until = self.store.clock() + window
        kept = await journal.step("kept", keep, request={"until": until})
        return kept.detail if isinstance(kept, Done) else f"{instance_id} is kept, but: {kept.why}"

    # the way back

    async def _back(self, journal: Journal, old: Bot, why: str) -> str:
        """The old instance is the bot again, wherever this stands; what was done, in words."""
        begun = await journal.steps()
        patient = self.store.clock() + self.launcher.settings.redeploy_timeout
        if "moved" in begun:
            facts = {key: getattr(old, key) for key in (*PLACE, *CONFIGURATION)}
            back = await self.handover.put(
                journal, "moved back", facts | {"standby_instance_id": "", "standby_until": None}
            )
            if isinstance(back, Failed):
                return f"it could not be moved back: {back.why}"
        said = await self.launcher.take_away(journal, why)
        if "stopped" not in begun or not old.instance_id:
            return f"{said}; the old instance was left alone"
        ended = (await journal.steps()).get("clean up")
        if ended is not None and ended.state == "failed" and "activated" in begun:
            return f"{said}; the old instance stays stopped, because two would use one token"

        async def start(_: Mapping[str, Any]) -> Outcome:
            return await self._start(journal, old)

        for name, effect in (("reserved again", self._reserve(journal, old)), ("started again", start)):
            outcome = await journal.step(name, effect, deadline=patient)
            if isinstance(outcome, Failed):
                return f"{said}; the old instance did not come back: {outcome.why}"
        return f"{said}; it is back on {old.instance_id}"

    def _reserve(self, journal: Journal, old: Bot) -> Effect:
        async def reserve(_: Mapping[str, Any]) -> Outcome:
            await self.launcher.aws.give_token(old.name, old.instance_id)
            return Done({}, f"the token is {old.instance_id}'s again")

        return reserve

    async def _start(self, journal: Journal, old: Bot) -> Outcome:
        """Start the old instance, which may have another public address now, and see that its bot is well."""
        launcher, patience = self.launcher, self.launcher.settings.redeploy_timeout
        await launcher.aws.start(old.instance_id, journal.lease.check)
        found = await launcher.observer.wait_for(old.instance_id, ("running", "terminated"), patience)
        if isinstance(found, AwsError):
            return Failed(str(found))
        if found is None or found.state != "running":
            return Failed(f"{old.instance_id} did not start in {patience:.0f} s")
        address = f"{launcher.address_of(found)}:{old.config['probe']['port']}"
        async with self.store.hold(journal.lease) as tx:
            await tx.change_bot(old.name, address=address)
        well = await self._well(old, address, patience)
        if isinstance(well, Done):
            async with self.store.hold(journal.lease) as tx:
                await tx.change_bot(old.name, **well.result)
        return well
