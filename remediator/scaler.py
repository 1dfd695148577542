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

from remediator import metrics
from remediator.api import Api
from remediator.awserror import AwsError
from remediator.errors import RequestError, first_line
from remediator.gates import Verdict
from remediator.lifecycle import begin_retirement
from remediator.metrics import Series
from remediator.model import Run
from remediator.modes import mode_of_scaling
from remediator.requests import DeployRequest
from remediator.rounds import repeat
from remediator.scaling import Group, Move, Past, Policy, decide, moved
from remediator.scaling_look import Sights, added_by, group_of, held_by, look, storm
from remediator.services import Services
from remediator.ssm import pool_parameter
from remediator.transaction import Transaction
from templates import ENVIRONMENTS

log = structlog.get_logger()

ACTOR: Final = "scaling"
Where = tuple[str, str]  # template, environment
Offer = DeployRequest | str  # what a new bot is deployed with; or why there is nothing


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


@dataclass(frozen=True, slots=True)
class Round:
    """What all groups are judged by, until then (Unix seconds)."""

    sights: Sights
    blind: str
    until: float


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
        await repeat(self.round, self.services.settings.scaling_interval, "no group was scaled")

    async def round(self) -> None:
        """Look at every group once, and begin at most one move in each; what comes too late is not done.

        The turn is one replica's for as long as a look is good for: whoever was frozen in between has lost
        both, and decides nothing by what it saw then.
        """
        store, sight = self.services.store, self.services.recovery.sight
        lasts = 2 * self.services.settings.scaling_interval
        async with store.write() as tx:
            ours, until = await tx.turn("scaling", lasts), tx.now + lasts
        prometheus = self.services.prometheus
        sights = await look(prometheus) if ours and prometheus is not None else None
        if sights is None:
            return
        blind, silences = await asyncio.gather(sight.blind(), sight.silences())
        shown: dict[Series, list[tuple[tuple[str, ...], float]]] = {one: [] for one in metrics.SCALING_SERIES}
        for template, environment, policy in self.groups():
            labels = template, environment
            silenced = sight.silenced_by(silences, [{"template": template, "environment": environment}])
            group = await self._scale(labels, policy, Round(sights, blind or silenced, until))
            if group is None:
                return
            shown[metrics.SCALING_BOTS].append((labels, group.bots))
            shown[metrics.SCALING_CAPACITY].append((labels, group.capacity))
            shown[metrics.SCALING_TARGET].append((labels, policy.target))
        self.services.metrics.scaling.show(shown)

    async def _scale(self, where: Where, policy: Policy, seen: Round) -> Group | None:
        """The group as it is; None where it is too late to say."""
        group, due = await self._look(where, policy, seen, None)
        if due:  # AWS is not asked within a transaction; when it has answered, all is looked at once more
            group, _ = await self._look(where, policy, seen, await self._offer(*where))
        return group

    async def _look(
        self, where: Where, policy: Policy, seen: Round, offer: Offer | None
    ) -> tuple[Group | None, bool]:
        """The group, and whether it is to grow as soon as there is an offer.

        A move is decided, allowed, written down and begun in one transaction: whoever dies on the way, or
        comes back to it late, has begun it once or not at all.
        """
        run, limits = None, self.services.recovery.limits
        async with self.services.store.write() as tx:
            if tx.now >= seen.until:
                return None, False
            kept = Kept.of(await tx.scaling(*where))
            bots, active = await tx.bots(), await tx.active_runs()
            ours = [bot for bot in bots if (bot.template, bot.environment) == where]
            added = await added_by(tx, ours, ACTOR)
            raging = await storm(tx, bots, seen.sights, limits)
            group = group_of(ours, added, active, seen.sights, raging)
            past, move = decide(policy, group, kept.past, tx.now)
            kept = replace(kept, past=past, proposed=self._fresh(kept.proposed, move, tx.now))
            held = await held_by(tx, ours, *where, seen.blind, limits) if move.direction else None
            if move.direction and held is None and self._may(where[1], kept):
                if move.direction == "out" and offer is None:
                    return group, True
                kept, run = await self._begin(tx, where, move, kept, added, offer)
            elif move.direction:
                kept = await self._say(tx, where, move, held, kept)
            elif past.short_since is None and past.calm_since is None:
                kept = replace(kept, said="")
            await tx.keep_scaling(*where, asdict(kept))
        if run is not None:
            self.services.metrics.scalings.labels(move.direction, "begun").inc()
            log.info("group scaled", run=run.id, bot=run.bot, why=move.why, **_told(where, move))
            await self._drive(run, offer)
        return group, False

    def _may(self, environment: str, kept: Kept) -> bool:
        """Whether the mode lets it."""
        mode = mode_of_scaling(self.services.settings.modes, environment)
        return mode == "auto" or (mode == "approve" and bool((kept.proposed or {}).get("approved")))

    def _fresh(self, proposed: Mapping[str, Any] | None, move: Move, now: float) -> Mapping[str, Any] | None:
        """A proposal holds while the decision is the same, and until nobody has answered for too long."""
        if proposed is None or proposed["direction"] != move.direction:
            return None
        return proposed if now < proposed["at"] + self.services.settings.approval_timeout else None

    async def _say(self, tx: Transaction, where: Where, move: Move, held: Verdict | None, kept: Kept) -> Kept:
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

    async def _begin(
        self,
        tx: Transaction,
        where: Where,
        move: Move,
        kept: Kept,
        added: Sequence[str],
        offer: Offer | None,
    ) -> tuple[Kept, Run | None]:
        """With its clocks begun anew; also where it is refused, so that it is not asked for all the time."""
        try:
            run = await (self._grow(tx, offer) if move.direction == "out" else self._shrink(tx, added))
        except RequestError as error:
            refused = first_line(error)
            if refused != kept.said:
                await tx.audit("scale.refused", actor=ACTOR, **_told(where, move), why=refused)
                self.services.metrics.scalings.labels(move.direction, "refused").inc()
            return Kept(replace(kept.past, short_since=None, calm_since=None), None, refused), None
        told = _told(where, move)
        await tx.audit("scale.begun", bot=run.bot, run_id=run.id, actor=ACTOR, **told, why=move.why)
        return Kept(moved(kept.past, move.direction, tx.now)), run

    async def _drive(self, run: Run, offer: Offer | None) -> None:
        if run.kind == "retire" or not isinstance(offer, DeployRequest):
            self.services.engine.drive(run)
            return
        try:
            await Api(self.services).set_out(run, offer)
        except RequestError as error:
            log.warning("a bot was not added", run=run.id, why=str(error))

    async def _grow(self, tx: Transaction, offer: Offer | None) -> Run:
        if not isinstance(offer, DeployRequest):
            raise RequestError(409, offer or "nothing is offered")
        run, _ = await Api(self.services).reserve(tx, offer, ACTOR)
        return run

    async def _offer(self, template: str, environment: str) -> Offer:
        """A name and its token; or why there is none."""
        try:
            number, token = await self._free_token(template)
        except (RequestError, AwsError) as error:
            return str(error)
        asked = {"botName": f"{template}-{number}", "botType": template, "environment": environment}
        return DeployRequest.model_validate({**asked, "telegramToken": token})

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

    async def _shrink(self, tx: Transaction, added: Sequence[str]) -> Run:
        """Retire the newest that scaling added; never one that a person has declared."""
        for name in reversed(added):
            bot = await tx.bot(name)
            if bot is not None and bot.state == "active" and await tx.active_run(name) is None:
                return await begin_retirement(tx, bot, False, ACTOR)
        raise RequestError(409, "every bot that scaling added is in the hands of a run")


def _told(where: Where, move: Move) -> dict[str, str]:
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
