"""A simulator that finds nothing proves nothing: bugs are planted in production code, one at a time."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from remediator import gates, intake, ladder, recovery, scaler, scaling, scaling_look
from remediator.actions import ACTIONS, TierAction
from remediator.alerts import Start
from remediator.alerts import decide as decide_
from remediator.engine import Engine
from remediator.gates import Situation, Verdict
from remediator.journal import Done, Effect, Journal, Outcome
from remediator.ladder import Attempt, Move, Try
from remediator.launch import Launcher
from remediator.lease import Lease
from remediator.model import Bot, Tier
from remediator.retire import Retirement
from remediator.scaler import Kept, Scaler
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
        decision = real(alert, **{**known, "own": None, "last": None})
        return Start(f"rec-{next(number)}") if isinstance(decision, Start) else decision

    monkeypatch.setattr(intake, "decide", decide)


def forget_the_relapse(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decide_
    monkeypatch.setattr(
        intake, "decide", lambda alert, **known: real(alert, **{**known, "own": None, "last": None})
    )


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


def scale_by(**wrong: Any) -> Plant:
    """With a policy that differs from what people wrote."""
    real = scaling.Policy
    return lambda monkeypatch: monkeypatch.setattr(
        scaler,
        "Policy",
        lambda *of: replace(real(*of), **{key: of_(real(*of)) for key, of_ in wrong.items()}),
    )


def see_groups(**wrong: Any) -> Plant:
    real = scaling_look.group_of
    return lambda monkeypatch: monkeypatch.setattr(
        scaler, "group_of", lambda *seen: replace(real(*seen), **wrong)
    )


def take_what_people_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    async def added_by(_: object, bots: list[Bot], __: str) -> list[str]:
        return [bot.name for bot in bots]

    monkeypatch.setattr(scaler, "added_by", added_by)


def ignore_the_pause_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    async def held_by(*_: object) -> None:
        return None

    monkeypatch.setattr(scaler, "held_by", held_by)


def act_on_an_old_look(monkeypatch: pytest.MonkeyPatch) -> None:
    real = scaler.Round
    monkeypatch.setattr(scaler, "Round", lambda sights, blind, _: real(sights, blind, math.inf))


def retire_without_terminating(monkeypatch: pytest.MonkeyPatch) -> None:
    async def terminate(*_: object) -> Outcome:
        return Done({}, "planted")

    monkeypatch.setattr(Retirement, "_terminate", terminate)


def begin_what_was_decided_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing could have changed while AWS was asked for a token."""
    real = Scaler._look

    async def look(self: Scaler, where: Any, policy: Any, seen: Any, offer: Any) -> Any:
        if offer is None:
            return await real(self, where, policy, seen, offer)
        async with self.services.store.write() as tx:
            template, environment = where
            kept = Kept.of(await tx.scaling(template, environment))
            move = scaling.Move("out", "planted")
            kept, run = await self._begin(tx, where, move, kept, [], offer)
            await tx.keep_scaling(template, environment, asdict(kept))
        if run is not None:
            await self._drive(run, offer)
        return None, False

    monkeypatch.setattr(Scaler, "_look", look)


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
    "scale in a storm": see_groups(storm=False),
    "scale while busy": see_groups(busy=False),
    "scale beyond max": scale_by(max=lambda policy: policy.max + 1),
    "scale below min": scale_by(min=lambda _: 0),
    "scale in without a calm": scale_by(calm=lambda _: 1.0),
    "forget the last move": lambda monkeypatch: monkeypatch.setattr(scaler, "moved", lambda past, *_: past),
    "shrink to grow again": lambda monkeypatch: monkeypatch.setattr(scaling, "MARGIN", -1.0),
    "take what people declared": take_what_people_declared,
    "scale in shadow": lambda monkeypatch: monkeypatch.setattr(scaler, "mode_of_scaling", lambda *_: "auto"),
    "scale through a pause": ignore_the_pause_of_a_group,
    "scale by an old look": act_on_an_old_look,
    "scale by an old decision": begin_what_was_decided_before,
    "retire without terminating": retire_without_terminating,
}


@pytest.mark.parametrize("bug", PLANTS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[bug](monkeypatch)
    found = next((result for seed in range(SEEDS) if (result := check(seed)).violation), None)
    assert found is not None, f"{SEEDS} seeds did not find it"
