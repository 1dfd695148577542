"""Makes groups of bots larger and smaller: looks, decides, asks the gates, and begins an ordinary run.

Growing is `POST /deploy` of TEMPLATE-N with the token that people put aside at /pool/TEMPLATE/N, shrinking
is `DELETE /bots/{bot}` of the newest bot that was added so; both are in the trail as what scaling asked for.
What is decided but not done (shadow, approve) is written down once.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy.exc import IntegrityError

from remediator import metrics
from remediator.api import Api
from remediator.awserror import AwsError
from remediator.errors import RequestError
from remediator.gates import Verdict
from remediator.ledger import Ledger
from remediator.lifecycle import begin_retirement
from remediator.metrics import Series
from remediator.model import Run
from remediator.modes import mode_of_scaling
from remediator.requests import DeployRequest
from remediator.scaling import Group, Move, Past, Policy, decide, moved
from remediator.scaling_look import Sights, added_by, group_of, held_by, look, storm
from remediator.services import Services
from remediator.ssm import pool_parameter
from remediator.transaction import Transaction
from templates import ENVIRONMENTS

log = structlog.get_logger()

ACTOR: Final = "scaling"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store keeps of a group."""

    past: Past = field(default_factory=Past)
    proposed: Mapping[str, Any] | None = None  # {"direction", "why", "at", "approved"}
    said: str = ""  # the decision or refusal that is in the trail already

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Kept":
        if not state:
            return cls()
        return cls(Past(**state["past"]), state["proposed"], state["said"])


@dataclass
class Scaler:
    services: Services

    def groups(self) -> list[tuple[str, str, Policy]]:
        """(template, environment, policy) of those that scale."""
        settings, templates = self.services.settings, self.services.templates
        found: list[tuple[str, str, Policy]] = []
        for name in templates.names:
            for environment in ENVIRONMENTS:
                asked = templates.get(name, environment).scaling
                if asked is not None:
                    policy = Policy(
                        asked.min, asked.max, asked.target, settings.scaling_patience, settings.scaling_calm
                    )
                    found.append((name, environment, policy))
        return found

    async def serve(self) -> None:
        interval = self.services.settings.scaling_interval
        while True:
            await asyncio.sleep(interval)
            try:
                async with self.services.store.write() as tx:
                    ours = await tx.turn("scaling", 2 * interval)
                if ours:
                    await self.round()
            except Exception:  # the boundary of this task: the next look may succeed
                log.exception("no group was scaled")

    async def round(self) -> None:
        """Look at every group once, and begin at most one move in each."""
        prometheus = self.services.prometheus
        sights = await look(prometheus) if prometheus is not None else None
        if sights is None:
            return
        blind, silences = await asyncio.gather(
            self.services.recovery.sight.blind(), self.services.recovery.sight.silences()
        )
        shown: dict[Series, list[tuple[tuple[str, ...], float]]] = {one: [] for one in metrics.SCALING_SERIES}
        for template, environment, policy in self.groups():
            labels = template, environment
            silenced = self.services.recovery.sight.silenced_by(
                silences, [{"template": template, "environment": environment}]
            )
            group = await self._scale(template, environment, policy, sights, blind or silenced)
            shown[metrics.SCALING_BOTS].append((labels, group.bots))
            shown[metrics.SCALING_CAPACITY].append((labels, group.capacity))
            shown[metrics.SCALING_TARGET].append((labels, policy.target))
        self.services.metrics.scaling.show(shown)

    async def _scale(
        self, template: str, environment: str, policy: Policy, sights: Sights, blind: str
    ) -> Group:
        where, limits = (template, environment), self.services.recovery.limits
        async with self.services.store.write() as tx:
            kept = Kept.of(await Ledger(tx).scaling(*where))
            bots, active = await tx.bots(), await tx.active_runs()
            ours = [bot for bot in bots if (bot.template, bot.environment) == where]
            added = await added_by(tx, ours, ACTOR)
            group = group_of(ours, added, active, sights, await storm(tx, bots, sights, limits))
            past, move = decide(policy, group, kept.past, tx.now)
            kept = replace(kept, past=past, proposed=self._fresh(kept.proposed, move, tx.now))
            held = await held_by(tx, ours, *where, blind, limits) if move.direction else None
            go = bool(move.direction) and held is None and self._may(environment, kept)
            if go:  # the clocks begin anew before the effect: whoever dies in between has done nothing twice
                kept = Kept(moved(past, move.direction, tx.now), None, kept.said)
            elif move.direction:
                kept = await self._say(tx, where, move, held, kept)
            else:
                kept = replace(kept, said="")
            await Ledger(tx).keep_scaling(*where, asdict(kept))
        if go:
            await self._do(where, move, kept, added)
        return group

    def _may(self, environment: str, kept: Kept) -> bool:
        """Whether the mode lets it."""
        mode = mode_of_scaling(self.services.settings.modes, environment)
        return mode == "auto" or (mode == "approve" and bool((kept.proposed or {}).get("approved")))

    def _fresh(self, proposed: Mapping[str, Any] | None, move: Move, now: float) -> Mapping[str, Any] | None:
        """A proposal holds while the decision is the same, and until nobody has answered for too long."""
        if proposed is None or proposed["direction"] != move.direction:
            return None
        return proposed if now < proposed["at"] + self.services.settings.approval_timeout else None

    async def _say(
        self, tx: Transaction, where: tuple[str, str], move: Move, held: Verdict | None, kept: Kept
    ) -> Kept:
        """Write down what is not done, once as long as it is the same."""
        template, environment = where
        mode = mode_of_scaling(self.services.settings.modes, environment)
        if mode == "approve" and held is None and kept.proposed is None:
            proposed = {"direction": move.direction, "why": move.why, "at": tx.now, "approved": ""}
            kept = replace(kept, proposed=proposed, said="")
            asked = f"✋ May {template} in {environment} scale {move.direction}? {move.why}"
            await tx.notify("", f"{asked}\nPOST /scaling/{template}/{environment}/approve")
        said = f"{move.direction}:{held.gate if held else mode}"
        if said == kept.said:
            return kept
        outcome = "refused" if held else "proposed" if mode == "approve" else "shadowed"
        why = f"{held.gate}: {held.why}" if held else move.why
        await tx.audit(f"scale.{outcome}", actor=ACTOR, **_told(where, move), why=why)
        self.services.metrics.scalings.labels(move.direction, outcome).inc()
        return replace(kept, said=said)

    # doing it

    async def _do(self, where: tuple[str, str], move: Move, kept: Kept, added: Sequence[str]) -> None:
        bot, run_id, refused = "", "", ""
        try:
            run = await (self._grow(*where) if move.direction == "out" else self._shrink(added))
            bot, run_id = run.bot, run.id
        except (RequestError, AwsError, IntegrityError) as error:
            refused = str(error).splitlines()[0]
        outcome = "refused" if refused else "begun"
        async with self.services.store.write() as tx:
            if refused != kept.said or not refused:
                told, why = _told(where, move), refused or move.why
                await tx.audit(f"scale.{outcome}", bot=bot, run_id=run_id, actor=ACTOR, **told, why=why)
            await Ledger(tx).keep_scaling(*where, asdict(replace(kept, said=refused)))
        self.services.metrics.scalings.labels(move.direction, outcome).inc()
        log.info("group scaled", outcome=outcome, bot=bot, why=refused or move.why, **_told(where, move))

    async def _grow(self, template: str, environment: str) -> Run:
        number, token = await self._free_token(template)
        name = f"{template}-{number}"
        asked = DeployRequest.model_validate(
            {"botName": name, "botType": template, "telegramToken": token, "environment": environment}
        )
        run, _ = await Api(self.services).begin_deploy(asked, ACTOR)
        return run

    async def _free_token(self, template: str) -> tuple[int, Any]:
        """The first of the pool that no bot has. RequestError where there is none."""
        async with self.services.store.read() as tx:
            taken = {bot.name for bot in await tx.bots()}
        most = max(policy.max for name, _, policy in self.groups() if name == template)
        for number in range(1, 3 * most + 1):  # one a bot that there may be, in each environment
            if f"{template}-{number}" not in taken:
                token = await self.services.aws.pooled_token(template, number)
                if token is not None:
                    return number, token
        raise RequestError(
            409,
            f"no Telegram token is left at {pool_parameter(template, 1)} and on",
            remedy="put one there for each bot that may be added, as a SecureString",
        )

    async def _shrink(self, added: Sequence[str]) -> Run:
        """Retire the newest that scaling added; never one that a person has declared."""
        async with self.services.store.write() as tx:
            for name in reversed(added):
                bot = await tx.bot(name)
                if bot is not None and bot.state == "active" and await tx.active_run(name) is None:
                    run = await begin_retirement(tx, bot, False, ACTOR)
                    break
            else:
                raise RequestError(409, "every bot that scaling added is in the hands of a run")
        self.services.engine.drive(run)
        return run


def _told(where: tuple[str, str], move: Move) -> dict[str, str]:
    return {"template": where[0], "environment": where[1], "direction": move.direction}


@asynccontextmanager
async def run_scaler(services: Services) -> AsyncIterator[Scaler]:
    """Where no template scales, nothing runs."""
    scaler = Scaler(services)
    task = asyncio.create_task(scaler.serve()) if scaler.groups() else None
    try:
        yield scaler
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
