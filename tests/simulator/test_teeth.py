"""A simulator that finds nothing proves nothing: bugs are planted in production code, one at a time."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from remediator.alerts import intake
from remediator.alerts.decide import Start
from remediator.alerts.decide import decide as decide_
from remediator.engine.engine import Engine
from remediator.engine.journal import Done, Effect, Journal, Outcome
from remediator.model import TIERS, Bot, Tier, Verdict
from remediator.provisioning.launcher import Launcher
from remediator.provisioning.retire import Retirement
from remediator.recovery import gatekeeper, gates, ladder
from remediator.recovery.gates import Situation
from remediator.recovery.ladder import Attempt, Move, Try
from remediator.recovery.tiers import ACTIONS, TierAction
from remediator.scaling import autoscaler, observation
from remediator.scaling import policy as scaling
from remediator.scaling.autoscaler import Autoscaler, GroupState
from remediator.store.lease import Lease
from sandbox.simulator.simulate import check

SEEDS = 600  # a bug that none of so many finds was not found

Plant = Callable[[pytest.MonkeyPatch], None]


def open_gate(name: str) -> Plant:
    def always(situation: Situation, *_: object) -> Verdict:
        return gates._go(name, "planted")

    return lambda monkeypatch: monkeypatch.setattr(gates, name, always)


def drop_the_dedupe(monkeypatch: pytest.MonkeyPatch) -> None:
    real, number = decide_, itertools.count()

    def decide(alert: Any, **facts: Any) -> Any:
        decision = real(alert, **{**facts, "own": None, "last": None})
        return Start(f"rec-{next(number)}") if isinstance(decision, Start) else decision

    monkeypatch.setattr(intake, "decide", decide)


def forget_the_relapse(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decide_
    monkeypatch.setattr(
        intake, "decide", lambda alert, **facts: real(alert, **{**facts, "own": None, "last": None})
    )


def forget_the_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decide_

    def decide(alert: Any, **facts: Any) -> Any:
        bot = facts["bot"] and replace(facts["bot"], quarantined_at=None)
        return real(alert, **{**facts, "bot": bot})

    monkeypatch.setattr(intake, "decide", decide)


def skip_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Journal.step

    async def step(self: Journal, name: str, effect: Effect, **more: Any) -> Outcome:
        if name in await self.steps():
            return await real(self, name, effect, **more)
        outcome = await self.attempt(effect, None, more.get("request") or {})

        async def done(_: Mapping[str, Any]) -> Outcome:
            return outcome

        return await real(self, name, done, **more)

    monkeypatch.setattr(Journal, "step", step)


def settle_by_repeating(tier: Tier) -> Plant:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        how: TierAction = ACTIONS[tier]
        monkeypatch.setitem(ACTIONS, tier, replace(how, settle=how.do))

    return plant


def climb(by: int) -> Plant:
    """Repeat a tier that did not cure (0), or leave one out (2)."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        real = ladder.next_move

        def next_move(tried: list[Attempt], *limits: Any) -> Move:
            move = real(tried, *limits)
            if tried and isinstance(move, Try):
                number = TIERS.index(tried[-1].tier) + by
                return Try(TIERS[min(number, 2)])
            return move

        monkeypatch.setattr(ladder, "next_move", next_move)

    return plant


def act_in_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeper, "mode_for", lambda *_: "auto")


def leave_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def clean_up(*_: object) -> str:
        return "planted"

    monkeypatch.setattr(Launcher, "clean_up", clean_up)


def never_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(_: Engine) -> None:
        pass

    monkeypatch.setattr(Engine, "_claim", claim)


def scale_by(**wrong: Any) -> Plant:
    """Scale by a policy that differs from what people wrote."""
    real = scaling.Policy
    return lambda monkeypatch: monkeypatch.setattr(
        autoscaler,
        "Policy",
        lambda *of: replace(real(*of), **{key: of_(real(*of)) for key, of_ in wrong.items()}),
    )


def see_groups(**wrong: Any) -> Plant:
    real = observation.group_of
    return lambda monkeypatch: monkeypatch.setattr(
        autoscaler, "group_of", lambda *seen: replace(real(*seen), **wrong)
    )


def take_what_people_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    async def added_by(_: object, bots: list[Bot], __: str) -> list[str]:
        return [bot.name for bot in bots]

    monkeypatch.setattr(autoscaler, "added_by", added_by)


def ignore_the_pause_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    async def blocking_gate(*_: object) -> None:
        return None

    monkeypatch.setattr(autoscaler, "blocking_gate", blocking_gate)


def act_on_an_old_look(monkeypatch: pytest.MonkeyPatch) -> None:
    real = autoscaler.Readings
    monkeypatch.setattr(autoscaler, "Readings", lambda metrics, problem, _: real(metrics, problem, math.inf))


def retire_without_terminating(monkeypatch: pytest.MonkeyPatch) -> None:
    async def terminate(*_: object) -> Outcome:
        return Done({}, "planted")

    monkeypatch.setattr(Retirement, "_terminate", terminate)


def begin_what_was_decided_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as if nothing could have changed while AWS was asked for a token."""
    real = Autoscaler._decide

    async def decide(self: Autoscaler, scaled: Any, readings: Any, offer: Any = None) -> Any:
        if offer is None:
            return await real(self, scaled, readings)
        async with self.store.write() as tx:
            state = GroupState.of(await tx.scaling(*scaled.labels))
            move = scaling.Move("out", "planted")
            group = scaling.Group(bots=0, healthy=0, added=0, load=None)
            decision = autoscaler.Decision(scaled, group, state, move, [], None, due=True)
            run = await self._apply(tx, decision, offer)
        if run is not None:
            await self._start(run, decision, offer)
        return None

    monkeypatch.setattr(Autoscaler, "_decide", decide)


PLANTS: dict[str, Plant] = {
    "drop the dedupe": drop_the_dedupe,
    "forget the relapse": forget_the_relapse,
    "forget the quarantine": forget_the_quarantine,
    "skip the intent": skip_the_intent,
    "repeat a restart in doubt": settle_by_repeating("restart"),
    "repeat a reboot in doubt": settle_by_repeating("reboot"),
    "repeat a tier": climb(0),
    "leave out a tier": climb(2),
    "act in shadow mode": act_in_shadow,
    "leave the candidate running": leave_the_candidate,
    "leave the runs of the dead": never_claim,
    "ignore the fence": lambda monkeypatch: monkeypatch.setattr(Lease, "check", lambda _: None),
    "forget the fleet": open_gate("_fleet"),
    "forget the caps": open_gate("_in_flight"),
    "forget the rate": open_gate("_rate"),
    "forget the attempts": open_gate("_attempts"),
    "forget the resolve": open_gate("_resolved"),
    "forget the pause": open_gate("_paused"),
    "forget the silence": open_gate("_silenced"),
    "forget the blindness": open_gate("_monitoring"),
    "forget the cancel": open_gate("_cancelled"),
    "forget to ask": open_gate("_mode"),
    "forget the dependency": open_gate("_dependency"),
    "treat the healthy": open_gate("_healthy"),
    "scale in a storm": see_groups(storm=False),
    "scale while busy": see_groups(busy=False),
    "scale beyond max": scale_by(max=lambda policy: policy.max + 1),
    "scale below min": scale_by(min=lambda _: 0),
    "scale in without a calm": scale_by(scale_in_delay=lambda _: 1.0),
    "forget the last move": lambda monkeypatch: monkeypatch.setattr(
        autoscaler, "moved", lambda past, *_: past
    ),
    "shrink to grow again": lambda monkeypatch: monkeypatch.setattr(scaling, "MARGIN", -1.0),
    "take what people declared": take_what_people_declared,
    "scale in shadow": lambda monkeypatch: monkeypatch.setattr(
        autoscaler, "mode_for_scaling", lambda *_: "auto"
    ),
    "scale through a pause": ignore_the_pause_of_a_group,
    "scale by an old look": act_on_an_old_look,
    "scale by an old decision": begin_what_was_decided_before,
    "retire without terminating": retire_without_terminating,
}

# Where each was found last. Only the order in which seeds are tried goes by it.
FOUND_BY: dict[str, int] = {
    "drop the dedupe": 33,
    "forget the quarantine": 1,
    "skip the intent": 1,
    "repeat a restart in doubt": 62,
    "repeat a reboot in doubt": 542,
    "leave the candidate running": 1,
    "leave the runs of the dead": 2,
    "ignore the fence": 27,
    "forget the fleet": 10,
    "forget the caps": 9,
    "forget the rate": 28,
    "forget the resolve": 12,
    "forget the pause": 4,
    "forget the silence": 287,
    "forget the blindness": 49,
    "forget to ask": 3,
    "forget the dependency": 9,
    "treat the healthy": 177,
    "scale in a storm": 90,
    "scale while busy": 2,
    "scale beyond max": 7,
    "scale below min": 35,
    "scale in without a calm": 54,
    "forget the last move": 54,
    "shrink to grow again": 10,
    "take what people declared": 10,
    "scale in shadow": 7,
    "scale through a pause": 33,
    "scale by an old look": 54,
    "scale by an old decision": 54,
    "retire without terminating": 2,
}


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a seed that found it before, if it still does, else by the first that does."""
    PLANTS[bug](monkeypatch)
    seeds = dict.fromkeys([FOUND_BY.get(bug, 0), *range(SEEDS)])
    violation = next((result for seed in seeds if (result := check(seed)).violation), None)
    assert violation is not None, f"{SEEDS} seeds did not find it"
