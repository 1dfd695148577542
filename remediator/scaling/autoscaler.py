"""Makes groups of bots larger and smaller: reads, decides, asks the gates, and begins an ordinary run.

Growing is a deployment of TEMPLATE-N with the token that people put aside at /pool/TEMPLATE/N, shrinking the
retirement of the newest bot that was added so; both are in the trail as what scaling asked for. What is
decided but not done (shadow, approve) is written down once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import structlog

from remediator.aws.aws import Aws
from remediator.engine.engine import Engine
from remediator.engine.journal import Failed
from remediator.errors import Refused, first_line
from remediator.metrics import Metrics
from remediator.model import Run, Verdict
from remediator.modes import mode_for_scaling
from remediator.monitoring.alertmanager import Alertmanager
from remediator.monitoring.prometheus import Prometheus
from remediator.periodic import run_every
from remediator.provisioning import deploy, retire
from remediator.provisioning.deploy import DeploySpec
from remediator.recovery.limits import Limits
from remediator.recovery.monitoring_status import MonitoringStatus
from remediator.scaling.observation import (
    FleetMetrics,
    added_by,
    blocking_gate,
    group_of,
    is_storm,
    read_fleet_metrics,
)
from remediator.scaling.policy import Group, Move, Past, Policy, decide, moved
from remediator.scaling.token_pool import TokenPool
from remediator.settings import Settings
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from templates import ENVIRONMENTS, Templates

log = structlog.get_logger()

ACTOR: Final = "scaling"


@dataclass(frozen=True, slots=True)
class ScaledGroup:
    """A template in an environment, in which it scales by this policy."""

    template: str
    environment: str
    policy: Policy

    @property
    def labels(self) -> tuple[str, str]:
        """Return template and environment, by which it is stored and measured."""
        return self.template, self.environment


@dataclass(frozen=True, slots=True)
class GroupState:
    """What the store has of a group."""

    past: Past = field(default_factory=Past)
    proposed: Mapping[str, Any] | None = None  # {"direction", "why", "at", "approved"}
    reported: str = ""  # the decision or refusal that is in the trail already

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "GroupState":
        """Return the state that was stored; a new one where nothing was."""
        if not stored:
            return cls()
        return cls(Past(**stored["past"]), stored["proposed"], stored["said"])

    def stored(self) -> dict[str, Any]:
        """Return what the store is given."""
        return {"past": asdict(self.past), "proposed": self.proposed, "said": self.reported}


@dataclass(frozen=True, slots=True)
class Readings:
    """What all groups are judged by, until they are too old (Unix seconds)."""

    metrics: FleetMetrics
    problem: str  # why no alert can be trusted, or who silenced the group's; empty: nothing
    valid_until: float


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of a group. `due`: there is a move, and every gate and the mode allow it."""

    scaled: ScaledGroup
    group: Group
    state: GroupState  # from now on, if nothing is begun
    move: Move
    added: Sequence[str]  # bots that scaling added, oldest first
    gate: Verdict | None  # that holds the move back
    due: bool

    @property
    def needs_token(self) -> bool:
        """Return whether a bot is to be added, which takes a token of the pool."""
        return self.due and self.move.direction == "out"

    @property
    def measured(self) -> dict[str, float]:
        """Return what a scrape of any replica publishes of the group."""
        return {"bots": self.group.bots, "capacity": self.group.capacity}

    @property
    def facts(self) -> dict[str, str]:
        """Return what the trail and the log say of every move."""
        template, environment = self.scaled.labels
        return {"template": template, "environment": environment, "direction": self.move.direction}


@dataclass
class Autoscaler:
    """One replica scales at a time."""

    store: Store
    settings: Settings
    templates: Templates
    aws: Aws
    engine: Engine
    metrics: Metrics
    prometheus: Prometheus | None
    alertmanager: Alertmanager
    monitoring: MonitoringStatus
    limits: Limits

    def groups(self) -> list[ScaledGroup]:
        """Return those that scale."""
        settings, scaled = self.settings, []
        for template in self.templates.names:
            for environment in ENVIRONMENTS:
                limits = self.templates.get(template, environment).scaling
                if limits is not None:
                    delays = settings.scaling_patience, settings.scaling_calm
                    policy = Policy(limits.min, limits.max, limits.target, *delays)
                    scaled.append(ScaledGroup(template, environment, policy))
        return scaled

    async def serve(self) -> None:
        """Scale again and again, until cancelled."""
        await run_every(self.scale_groups, self.settings.scaling_interval, "no group was scaled")

    async def scale_groups(self) -> None:
        """Judge every group once, and begin at most one move in each; what comes too late is not done.

        One replica leads for as long as readings are valid: one that was frozen in between has lost both, and
        decides nothing by what it read then.
        """
        seconds = 2 * self.settings.scaling_interval
        async with self.store.write() as tx:
            leads, valid_until = await tx.try_lead("scaling", seconds), tx.now + seconds
        if not leads or self.prometheus is None:
            return
        fleet = await read_fleet_metrics(self.prometheus)
        if fleet is None:
            return
        problem, silences = await asyncio.gather(self.monitoring.problem(), self.alertmanager.silences())
        for scaled in self.groups():
            labels = [{"template": scaled.template, "environment": scaled.environment}]
            silenced = silences.covering(labels)
            if not await self._scale(scaled, Readings(fleet, problem or silenced, valid_until)):
                return

    async def _scale(self, scaled: ScaledGroup, readings: Readings) -> bool:
        """Judge the group; return whether the readings were new enough for that."""
        decision = await self._decide(scaled, readings)
        if decision is not None and decision.needs_token:
            # AWS is not asked within a transaction; when it has answered, all is decided once more.
            largest = max(other.policy.max for other in self.groups() if other.template == scaled.template)
            offer = await TokenPool(self.store, self.aws).next_bot(*scaled.labels, largest)
            decision = await self._decide(scaled, readings, offer)
        return decision is not None

    async def _decide(
        self, scaled: ScaledGroup, readings: Readings, offer: DeploySpec | Refused | None = None
    ) -> Decision | None:
        """Evaluate and apply in one transaction; return the decision, or None where the readings are too old.

        So a replica that dies on the way, or comes back to it late, has begun a move once or not at all. A
        decision that needs a token is not applied where there is no offer of one yet.
        """
        async with self.store.write() as tx:
            if tx.now >= readings.valid_until:
                return None
            decision = await self._evaluate(tx, scaled, readings)
            if decision.needs_token and offer is None:
                return decision
            run = await self._apply(tx, decision, offer)
        if run is not None:
            await self._start(run, decision, offer)
        return decision

    async def _evaluate(self, tx: Transaction, scaled: ScaledGroup, readings: Readings) -> Decision:
        """Read what the store has of the group, and decide. Writes nothing."""
        state = GroupState.of(await tx.scaling(*scaled.labels))
        every, active = await tx.bots(), await tx.active_runs()
        bots = [bot for bot in every if (bot.template, bot.environment) == scaled.labels]
        added = await added_by(tx, bots, ACTOR)
        storm = await is_storm(tx, every, readings.metrics, self.limits)
        group = group_of(bots, added, active, readings.metrics, storm)
        past, move = decide(scaled.policy, group, state.past, tx.now)
        state = replace(state, past=past, proposed=self._still_proposed(state.proposed, move, tx.now))
        gate = None
        if move.direction:
            gate = await blocking_gate(tx, bots, *scaled.labels, readings.problem, self.limits)
        due = bool(move.direction) and gate is None and self._allows(scaled.environment, state)
        return Decision(scaled, group, state, move, added, gate, due)

    def _allows(self, environment: str, state: GroupState) -> bool:
        """Return whether the mode lets a move be made."""
        mode = mode_for_scaling(self.settings.modes, environment)
        return mode == "auto" or (mode == "approve" and bool((state.proposed or {}).get("approved")))

    def _still_proposed(
        self, proposed: Mapping[str, Any] | None, move: Move, now: float
    ) -> Mapping[str, Any] | None:
        """Return a proposal while the decision is the same, until nobody has answered for too long."""
        if proposed is None or proposed["direction"] != move.direction:
            return None
        return proposed if now < proposed["at"] + self.settings.approval_timeout else None

    async def _apply(
        self, tx: Transaction, decision: Decision, offer: DeploySpec | Refused | None
    ) -> Run | None:
        """Write the decision down, and begin its move where it is due; return the run that makes it."""
        state, run = decision.state, None
        if decision.due:
            state, run = await self._begin(tx, decision, offer)
        elif decision.move.direction:
            state = await self._report(tx, decision)
        elif state.past.short_since is None and state.past.calm_since is None:
            state = replace(state, reported="")
        await tx.set_scaling(*decision.scaled.labels, {**state.stored(), **decision.measured})
        return run

    async def _report(self, tx: Transaction, decision: Decision) -> GroupState:
        """Write down what is not done, once as long as it is the same; return the group's new state."""
        template, environment = decision.scaled.labels
        state, move, gate = decision.state, decision.move, decision.gate
        mode = mode_for_scaling(self.settings.modes, environment)
        if mode == "approve" and gate is None and state.proposed is None:
            proposed = {"direction": move.direction, "why": move.reason, "at": tx.now, "approved": ""}
            state = replace(state, proposed=proposed, reported="")
            question = f"✋ May {template} in {environment} scale {move.direction}? {move.reason}"
            await tx.notify("", f"{question}\nPOST /scaling/{template}/{environment}/approve")
        report = f"{move.direction}:{gate.gate if gate else mode}"
        if report == state.reported:
            return state
        outcome = "refused" if gate else "proposed" if mode == "approve" else "shadowed"
        reason = f"{gate.gate}: {gate.reason}" if gate else move.reason
        await tx.audit(f"scale.{outcome}", actor=ACTOR, **decision.facts, why=reason)
        self.metrics.scalings.labels(move.direction, outcome).inc()
        return replace(state, reported=report)

    async def _begin(
        self, tx: Transaction, decision: Decision, offer: DeploySpec | Refused | None
    ) -> tuple[GroupState, Run | None]:
        """Begin the move; return the group's new state and the run, or no run where it was refused.

        The clocks begin anew in either case, so that what was refused is not tried all the time.
        """
        state, move = decision.state, decision.move
        try:
            run = await (
                self._grow(tx, offer) if move.direction == "out" else self._shrink(tx, decision.added)
            )
        except Refused as refused:
            reason = first_line(refused)
            if reason != state.reported:
                await tx.audit("scale.refused", actor=ACTOR, **decision.facts, why=reason)
                self.metrics.scalings.labels(move.direction, "refused").inc()
            return GroupState(replace(state.past, short_since=None, calm_since=None), None, reason), None
        await tx.audit(
            "scale.begun", bot=run.bot, run_id=run.id, actor=ACTOR, **decision.facts, why=move.reason
        )
        return GroupState(moved(state.past, move.direction, tx.now)), run

    async def _grow(self, tx: Transaction, offer: DeploySpec | Refused | None) -> Run:
        """Begin the deployment of a new bot. Raise Refused where nothing is offered, or it may not be."""
        if not isinstance(offer, DeploySpec):
            raise offer or Refused("conflict", "nothing is offered")
        run, _ = await deploy.begin(tx, offer, ACTOR, templates=self.templates, settings=self.settings)
        return run

    async def _shrink(self, tx: Transaction, added: Sequence[str]) -> Run:
        """Begin to retire the newest that scaling added; never one that a person has declared."""
        for name in reversed(added):
            bot = await tx.bot(name)
            if bot is not None and bot.state == "active" and await tx.active_run(name) is None:
                return await retire.begin(tx, bot, snapshot=False, actor=ACTOR)
        raise Refused("conflict", "every bot that scaling added is in the hands of a run")

    async def _start(self, run: Run, decision: Decision, offer: DeploySpec | Refused | None) -> None:
        """Have the run of a move driven, which is on disk by now."""
        self.metrics.scalings.labels(decision.move.direction, "begun").inc()
        log.info("group scaled", run=run.id, bot=run.bot, why=decision.move.reason, **decision.facts)
        token = offer.token if run.kind == "deploy" and isinstance(offer, DeploySpec) else None
        outcome = await deploy.start(run, token, store=self.store, aws=self.aws, engine=self.engine)
        if isinstance(outcome, Failed):
            log.warning("a bot was not added", run=run.id, why=outcome.reason)
