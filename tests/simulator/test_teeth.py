"""A simulator that finds nothing proves nothing: bugs are planted in production code, one at a time."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from remediator import gates, intake, ladder, recovery
from remediator.actions import ACTIONS, TierAction
from remediator.alerts import Start
from remediator.alerts import decide as decide_
from remediator.engine import Engine
from remediator.gates import Situation, Verdict
from remediator.journal import Effect, Journal, Outcome
from remediator.ladder import Attempt, Move, Try
from remediator.launch import Launcher
from remediator.lease import Lease
from remediator.model import Tier
from sandbox.simulator.simulate import check

SEEDS = 600  # a bug that none of so many finds was not found

Plant = Callable[[pytest.MonkeyPatch], None]


def open_gate(name: str) -> Plant:
    def always(situation: Situation, *_: object) -> Verdict:
        return gates._go(name, "planted")

    return lambda monkeypatch: monkeypatch.setattr(gates, name, always)


def drop_the_dedupe(monkeypatch: pytest.MonkeyPatch) -> None:
    real, number = decide_, itertools.count()

    def decide(alert: Any, **known: Any) -> Any:
        decision = real(alert, **{**known, "last": None})
        return Start(f"rec-{next(number)}") if isinstance(decision, Start) else decision

    monkeypatch.setattr(intake, "decide", decide)


def forget_the_relapse(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decide_
    monkeypatch.setattr(intake, "decide", lambda alert, **known: real(alert, **{**known, "last": None}))


def forget_the_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decide_

    def decide(alert: Any, **known: Any) -> Any:
        bot = known["bot"] and replace(known["bot"], quarantined_at=None)
        return real(alert, **{**known, "bot": bot})

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
    """0 repeats a tier that did not cure; 2 leaves one out."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        real = ladder.next_move

        def next_move(tried: list[Attempt], *known: Any) -> Move:
            move = real(tried, *known)
            if tried and isinstance(move, Try):
                number = ladder.TIERS.index(tried[-1].tier) + by
                return Try(ladder.TIERS[min(number, 2)])
            return move

        monkeypatch.setattr(ladder, "next_move", next_move)

    return plant


def act_in_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "mode_for", lambda *_: "auto")


def leave_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    async def take_away(*_: object) -> str:
        return "planted"

    monkeypatch.setattr(Launcher, "take_away", take_away)


def never_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async def claim(_: Engine) -> None:
        pass

    monkeypatch.setattr(Engine, "_claim", claim)


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
    "forget the pause": open_gate("_held"),
    "forget the silence": open_gate("_silenced"),
    "forget the blindness": open_gate("_sight"),
    "forget the cancel": open_gate("_cancelled"),
    "forget to ask": open_gate("_mode"),
    "treat the healthy": open_gate("_healthy"),
}


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[bug](monkeypatch)
    found = next((result for seed in range(SEEDS) if (result := check(seed)).violation), None)
    assert found is not None, f"{SEEDS} seeds did not find it"
