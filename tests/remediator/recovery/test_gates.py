from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.model import Approval, Bot, Effect, Hold, Run, StoredAlert, Verdict
from remediator.modes import Rule, mode_for, parse_rule
from remediator.monitoring.alertmanager import Silences
from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.recovery.dependencies import Dependency
from remediator.recovery.gates import (
    LONGEST_WAIT,
    Observations,
    Proposal,
    Records,
    Situation,
    decisive,
    judge,
    recheck_after,
    situation_of,
)
from remediator.recovery.limits import Limits, tokens
from remediator.recovery.queues import Queue, QueueAnswer
from remediator.recovery.storm import CensusEntry, Fleet, Storm, next_storm, over_limit

LIMITS = Limits(
    fleet_max_ratio=0.3,
    fleet_min_unhealthy=1,
    storm_cooldown=120,
    dependency_min=3,
    max_in_flight=3,
    max_per_template=3,
    max_per_zone=3,
    burst=10,
    refill=30,
    max_attempts=3,
)
BOT = Bot(
    name="forge", template="support", environment="staging", state="active", address="127.0.0.2:1",
    health_path="/health", mesh_path="/mesh", instance_id="i-1", config={}, config_sha="sha", boot_id=None,
    started_at=None, zone="us-west-1a", quarantined_at=None, quarantine_reason=None, attempts_from=0,
    created_at=0, updated_at=0,
)  # fmt: skip


def fleet(probed: int, ill: int, total: int | None = None) -> Fleet:
    """Make a census with `ill` of `probed` bots ill, no two alike, so that nothing is shared."""
    entries = tuple(
        CensusEntry(f"template-{n}", f"environment-{n}", f"zone-{n}", n < ill) for n in range(probed)
    )
    return Fleet(probed if total is None else total, entries)


def with_quarantined(census: Fleet, count: int) -> Fleet:
    """Put the first `count` bots of the census in quarantine."""
    entries = [replace(entry, quarantined=n < count) for n, entry in enumerate(census.entries)]
    return Fleet(census.total, tuple(entries))


def others(count: int, **changes: Any) -> list[Bot]:
    """Make bots that share nothing with BOT but the environment."""
    return [
        replace(BOT, **{"name": f"bot-{n}", "template": "designer", "zone": "", **changes})
        for n in range(count)
    ]


ILL = Situation(
    now=1000.0,
    tier="restart",
    bot=BOT,
    trigger="alert",
    climbing=False,
    bot_healthy=False,
    bot_detail="/health: connect_refused",
    alerts_firing=True,
    cancel=None,
    holds=[],
    silenced="",
    monitoring_problem="",
    fleet=fleet(10, 1),
    storm=Storm(),
    in_flight=[],
    queue_position=0,
    intents=[],
    attempts=0,
    mode="auto",
    approval=None,
)
OPEN_APPROVAL = Approval("rec-1", "restart", 900, 2700, "", "")


def stopped_by(situation: Situation, limits: Limits = LIMITS) -> tuple[str, Effect] | None:
    """Return the gate that decides, and its effect; None where the tier may begin."""
    stop = decisive(judge(situation, limits))
    return None if stop is None else (stop.gate, stop.effect)


def test_an_ill_bot_in_a_healthy_fleet_may_be_acted_on() -> None:
    assert stopped_by(ILL) is None


STOPS: list[tuple[dict[str, Any], str, Effect]] = [
    ({"cancel": "cancelled by jo"}, "cancelled", Effect.end),
    ({"bot_healthy": True}, "healthy", Effect.end),
    ({"alerts_firing": False}, "resolved", Effect.end),
    ({"holds": ["paused by jo"]}, "paused", Effect.hold),
    ({"silenced": "silenced by jo"}, "silenced", Effect.hold),
    ({"monitoring_problem": "the exporter is down"}, "monitoring", Effect.hold),
    ({"fleet": fleet(10, 4)}, "fleet", Effect.hold),
    ({"storm": Storm(True, 900, 950)}, "fleet", Effect.hold),
    ({"dependency": "4 of 5 bots are mute at once"}, "dependency", Effect.hold),
    ({"in_flight": others(3)}, "in_flight", Effect.hold),
    ({"in_flight": others(2), "queue_position": 1}, "in_flight", Effect.hold),
    ({"intents": [1000.0] * 10}, "rate", Effect.hold),
    ({"attempts": 3}, "attempts", Effect.escalate),
    ({"mode": "approve"}, "mode", Effect.hold),
    ({"mode": "approve", "approval": OPEN_APPROVAL}, "mode", Effect.hold),
    (
        {"mode": "approve", "approval": replace(OPEN_APPROVAL, decision="no", actor="jo")},
        "mode",
        Effect.escalate,
    ),
    ({"mode": "approve", "approval": replace(OPEN_APPROVAL, expires_at=1000)}, "mode", Effect.escalate),
]


@pytest.mark.parametrize(("changes", "gate", "effect"), STOPS)
def test_each_gate_stops_what_it_is_for(changes: dict[str, Any], gate: str, effect: Effect) -> None:
    assert stopped_by(replace(ILL, **changes)) == (gate, effect)


@pytest.mark.parametrize(
    "changes",
    [
        {"storm": Storm(False, 900, 950)},
        {"in_flight": others(2)},
        {"intents": [1000.0] * 9},
        {"intents": [970.0] * 10},
        {"attempts": 2},
        {"mode": "shadow"},
        {"mode": "approve", "approval": replace(OPEN_APPROVAL, decision="yes", actor="jo")},
    ],
)
def test_just_short_of_its_limit_no_gate_stops(changes: dict[str, Any]) -> None:
    assert stopped_by(replace(ILL, **changes)) is None


@pytest.mark.parametrize(("changes", "gate", "effect"), STOPS)
def test_a_person_overrides_all_but_the_caps_and_a_cancel(
    changes: dict[str, Any], gate: str, effect: Effect
) -> None:
    stop = stopped_by(replace(ILL, trigger="manual", **changes))
    assert stop == ((gate, effect) if gate in ("cancelled", "in_flight", "rate") else None)


def test_nobody_asked_for_the_harder_tiers_on_a_bot_that_is_well() -> None:
    climbing = replace(ILL, trigger="manual", climbing=True, bot_healthy=True)
    assert stopped_by(climbing) == ("healthy", Effect.end)


def test_every_gate_is_judged_and_says_why_even_when_another_has_stopped_it() -> None:
    verdicts = judge(replace(ILL, bot_healthy=True, fleet=fleet(4, 3)), LIMITS)
    assert [verdict.gate for verdict in verdicts] == [
        "cancelled", "healthy", "resolved", "paused", "silenced", "monitoring", "fleet", "dependency",
        "in_flight", "rate", "attempts", "mode",
    ]  # fmt: skip
    assert all(verdict.reason for verdict in verdicts)
    assert "3 of 4 bots are ill (75%)" in verdicts[6].reason


def test_nothing_left_to_do_wins_over_having_to_wait() -> None:
    """Else a bot that is well again would be held in a storm for as long as the storm lasts."""
    assert stopped_by(replace(ILL, bot_healthy=True, fleet=fleet(4, 4))) == ("healthy", Effect.end)
    assert stopped_by(replace(ILL, alerts_firing=False, in_flight=others(9))) == ("resolved", Effect.end)


def test_having_to_wait_wins_over_giving_up() -> None:
    """A bot with its attempts spent is not the culprit in an outage."""
    assert stopped_by(replace(ILL, attempts=9, fleet=fleet(4, 4))) == ("fleet", Effect.hold)


def test_a_person_is_asked_only_once_nothing_else_holds_it_back() -> None:
    verdicts = judge(replace(ILL, mode="approve", fleet=fleet(4, 4)), LIMITS)
    assert verdicts[-1].effect is Effect.go
    assert "once nothing else holds it back" in verdicts[-1].reason


@pytest.mark.parametrize("kind", ["zone", "template", "environment"])
def test_all_bots_behind_one_thing_ill_and_others_well_means_that_thing(kind: str) -> None:
    shared = {"zone": "us-west-1a", "template": "support", "environment": "staging"}[kind]
    down = [replace(entry, **{kind: shared}) for entry in fleet(3, 3).entries]  # type: ignore[arg-type]
    census = Fleet(20, (*down, *fleet(17, 0).entries))
    assert stopped_by(replace(ILL, fleet=census)) == ("monitoring", Effect.hold)
    partly_down = (replace(down[0], ill=False), *down[1:])
    assert stopped_by(replace(ILL, fleet=Fleet(20, (*partly_down, *fleet(17, 0).entries)))) is None
    assert stopped_by(replace(ILL, fleet=Fleet(20, (*down[1:], *fleet(18, 0).entries)))) is None


def test_a_template_and_a_zone_have_caps_of_their_own() -> None:
    limits = replace(LIMITS, max_in_flight=9, max_per_template=1, max_per_zone=2)
    assert stopped_by(replace(ILL, in_flight=others(1, template="support")), limits) == (
        "in_flight",
        Effect.hold,
    )
    assert stopped_by(replace(ILL, in_flight=others(2, zone="us-west-1a")), limits) == (
        "in_flight",
        Effect.hold,
    )
    assert stopped_by(replace(ILL, in_flight=others(2)), limits) is None


def test_a_sample_is_said_to_be_one() -> None:
    verdicts = judge(replace(ILL, fleet=fleet(200, 10, total=1000)), LIMITS)
    assert "a sample of 1000" in verdicts[6].reason


@pytest.mark.parametrize(
    ("probed", "most"),
    [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (6, 1), (7, 2), (10, 3), (20, 6), (1000, 300)],
)
def test_share_and_floor_of_the_fleet_gate(probed: int, most: int) -> None:
    """A fleet of three heals one; of ten, three: exactly the share is still allowed."""
    assert not over_limit(fleet(probed, most), LIMITS)
    assert over_limit(fleet(max(probed, most + 1), most + 1), LIMITS) or probed <= most


@given(ratio=st.integers(0, 100), floor=st.integers(1, 10), probed=st.integers(0, 300), share=st.floats(0, 1))
def test_never_above_the_limit_and_never_blocked_below_it(
    ratio: int, floor: int, probed: int, share: float
) -> None:
    """The limit in exact integers, where the gate has floats."""
    unhealthy = round(share * probed)
    limits = replace(LIMITS, fleet_max_ratio=ratio / 100, fleet_min_unhealthy=floor)
    stop = stopped_by(replace(ILL, fleet=fleet(probed, unhealthy)), limits)
    allowed = max(floor, ratio * probed // 100)
    assert stop == (None if unhealthy <= allowed else ("fleet", Effect.hold))


def test_a_storm_is_over_a_cool_down_after_the_last_look_over_the_limit() -> None:
    storm = next_storm(Storm(), fleet(10, 5), 100, LIMITS)
    assert storm == Storm(True, 100, 100)
    storm = next_storm(storm, fleet(10, 5), 150, LIMITS)
    assert storm == Storm(True, 100, 150)
    assert next_storm(storm, fleet(10, 0), 269, LIMITS).active
    assert not next_storm(storm, fleet(10, 0), 270, LIMITS).active
    assert next_storm(storm, Fleet(10), 10**9, LIMITS) == storm, "nothing was seen"


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 10), st.floats(0.1, 30))
def test_the_bucket_never_gives_more_than_burst_and_refill_allow(
    times: list[float], burst: int, refill: float
) -> None:
    """Asking at each time and taking where there is one: no window sees more than burst + length / refill."""
    limits = replace(LIMITS, burst=burst, refill=refill)
    taken: list[float] = []
    for now in sorted(times):
        if tokens(taken, now, limits) >= 1:
            taken.append(now)
    for start in range(len(taken)):
        for end in range(start, len(taken)):
            assert end - start + 1 <= burst + (taken[end] - taken[start]) / refill + 1e-6


@given(in_flight=st.integers(0, 20), limit=st.integers(1, 10), manual=st.booleans())
def test_never_more_in_flight_than_the_cap(in_flight: int, limit: int, manual: bool) -> None:
    now = replace(ILL, trigger="manual" if manual else "alert", in_flight=others(in_flight))
    limits = replace(LIMITS, max_in_flight=limit, max_per_template=99, max_per_zone=99)
    assert (stopped_by(now, limits) is None) == (in_flight < limit)


@given(st.lists(st.sampled_from(list(Effect)), max_size=6))
def test_an_end_goes_before_a_hold_and_a_hold_before_an_escalation(effects: list[Effect]) -> None:
    verdicts = [Verdict(str(number), effect, "") for number, effect in enumerate(effects)]
    stop = decisive(verdicts)
    ranked = [effect for effect in (Effect.end, Effect.hold, Effect.escalate) if effect in effects]
    assert (stop is None) == (not ranked)
    if stop is not None:
        assert (stop.effect, int(stop.gate)) == (ranked[0], effects.index(ranked[0]))


@pytest.mark.parametrize(
    ("rules", "environment", "tier", "mode"),
    [
        ("", "staging", "restart", "auto"),
        ("redeploy=approve", "staging", "redeploy", "approve"),
        ("redeploy=approve", "staging", "reboot", "auto"),
        ("*=shadow", "staging", "reboot", "shadow"),
        ("staging:*=shadow redeploy=approve", "staging", "redeploy", "shadow"),
        ("staging:redeploy=auto staging:*=shadow", "staging", "redeploy", "auto"),
        ("restart=shadow restart=approve", "staging", "restart", "approve"),
    ],
)
def test_the_rule_that_says_most_decides_the_mode(rules: str, environment: str, tier: Any, mode: str) -> None:
    assert mode_for([parse_rule(rule) for rule in rules.split()], environment, tier) == mode


@pytest.mark.parametrize("text", ["redeploy", "redeploy=perhaps", "fly=auto", "qa:restart=auto", "=auto", ""])
def test_a_wrong_mode_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text or "''"):
        parse_rule(text)


def test_a_mode_is_parsed_into_its_parts() -> None:
    assert parse_rule("staging:redeploy=approve") == Rule("staging", "redeploy", "approve")
    assert parse_rule("*=shadow") == Rule("", "", "shadow")


PROPOSAL = Proposal(
    Run("rec-1", "recover", "forge", "alert", "", "running", "", "", 0.0, None),
    BOT,
    "restart",
    climbing=False,
)
OBSERVATIONS = Observations(Observation(False, "/health: dns"), fleet(10, 1), "", Silences())
RECORDS = Records(
    now=1000.0,
    run=PROPOSAL.run,
    alerts=[],
    holds=[],
    storm=Storm(),
    in_flight=[],
    queue_position=0,
    intents=[],
    attempts=0,
    approval=None,
)


def alert(status: str, **labels: str) -> StoredAlert:
    return StoredAlert("f", 900.0, "BotDown", "forge", status, labels, {}, 900.0, 990.0, 1, "rec-1", "")


def test_a_situation_is_what_was_observed_and_what_is_recorded() -> None:
    situation = situation_of(PROPOSAL, OBSERVATIONS, RECORDS, "auto")
    assert (situation.bot_healthy, situation.bot_detail) == (False, "/health: dns")
    assert (situation.now, situation.alerts_firing, situation.cancel) == (1000.0, False, None)
    firing = replace(RECORDS, alerts=[alert("resolved"), alert("firing")])
    assert situation_of(PROPOSAL, OBSERVATIONS, firing, "auto").alerts_firing
    cancelled = replace(RECORDS, run=replace(PROPOSAL.run, cancel="cancelled by jo"))
    assert situation_of(PROPOSAL, OBSERVATIONS, cancelled, "auto").cancel == "cancelled by jo"


UNSEEN = Observation(False, "not probed: Too many open files", own_fault=True)


def test_a_bot_that_could_not_be_looked_at_by_a_fault_of_ours_is_not_acted_on() -> None:
    """Except for a person, and for the tier that they asked for alone."""
    firing = replace(RECORDS, alerts=[alert("firing")])
    situation = situation_of(PROPOSAL, replace(OBSERVATIONS, bot=UNSEEN), firing, "auto")
    assert situation.unseen == UNSEEN.detail
    assert stopped_by(situation) == ("monitoring", Effect.hold)
    asked = replace(situation, trigger="manual")
    assert stopped_by(asked) is None
    assert stopped_by(replace(asked, climbing=True)) == ("monitoring", Effect.hold)


def test_a_fleet_that_could_not_be_looked_at_holds_and_neither_begins_nor_ends_a_storm() -> None:
    unseen = Fleet(4)
    assert stopped_by(replace(ILL, fleet=unseen)) == ("fleet", Effect.hold)
    for storm in (Storm(), Storm(True, 100, 100)):
        assert next_storm(storm, unseen, 9999, LIMITS) == storm


DEAF = Observation(True, "/health ok", work=Work(channels={"telegram": False}))


def test_a_bot_that_answers_is_ill_for_a_run_that_its_being_deaf_began_and_for_no_other() -> None:
    observations = replace(OBSERVATIONS, bot=DEAF)
    deaf = replace(RECORDS, alerts=[alert("firing", symptom="deaf")])
    situation = situation_of(PROPOSAL, observations, deaf, "auto")
    assert (situation.bot_healthy, situation.bot_detail) == (False, "telegram is down")
    assert situation_of(
        PROPOSAL, observations, replace(RECORDS, alerts=[alert("firing")]), "auto"
    ).bot_healthy
    hears = replace(OBSERVATIONS, bot=replace(DEAF, work=Work(channels={"telegram": True})))
    assert situation_of(PROPOSAL, hears, deaf, "auto").bot_healthy


def test_a_queue_counts_before_any_tier_once_it_has_stalled_and_still_has() -> None:
    hears = replace(DEAF, work=Work(channels={"telegram": True}))
    deaf = replace(RECORDS, alerts=[alert("firing", symptom="deaf")])

    def well(now: int, *looks: int) -> bool:
        queues = {"telegram": QueueAnswer(now)}
        records = replace(deaf, queues={"telegram": Queue(990, looks)} if looks else {})
        observations = replace(OBSERVATIONS, bot=hears, queues=queues)
        return situation_of(PROPOSAL, observations, records, "auto").bot_healthy

    assert not well(4, 3, 3, 4)
    assert well(3, 3, 3, 4), "it has begun to fall"
    assert well(4, 3, 4)
    assert well(4)


def test_a_dependency_holds_what_shows_it_alone() -> None:
    """Not a bot that does not answer, nor one that has a trouble of its own beside it, nor a person."""
    away = [Dependency("mute", "fleet", "", "4 of 5 bots are mute at once", 0, 0)]
    mute = replace(DEAF, work=Work(failed={"other": 3}, channels={"telegram": False}))

    def dependency(observation: Observation, *symptoms: str) -> str:
        alerts = [alert("firing", symptom=symptom) for symptom in symptoms]
        records = replace(RECORDS, alerts=alerts, dependencies=away)
        return situation_of(PROPOSAL, replace(OBSERVATIONS, bot=observation), records, "auto").dependency

    assert "4 of 5 bots are mute at once" in dependency(mute, "mute")
    assert dependency(mute, "mute", "deaf") == ""
    assert dependency(mute, "stuck") == ""
    assert dependency(Observation(False, "/health: dns"), "mute") == ""
    assert dependency(mute) == ""


def test_a_refused_token_holds_a_deaf_bot_for_a_person() -> None:
    observations = replace(OBSERVATIONS, bot=DEAF, queues={"telegram": QueueAnswer(refused=True)})
    records = replace(RECORDS, alerts=[alert("firing", symptom="deaf")])
    assert "telegram refuses its token" in situation_of(PROPOSAL, observations, records, "auto").dependency


def test_only_holds_of_this_bot_at_this_time_count_and_say_whose_they_are() -> None:
    holds = [
        Hold(1, "bot", "atlas", "other", "jo", 0, None),
        Hold(2, "template", "support", "over", "jo", 0, 999),
        Hold(3, "environment", "staging", "new disk", "ann", 0, 2000),
        Hold(4, "fleet", "", "audit day", "jo", 0, None),
    ]
    situation = situation_of(PROPOSAL, OBSERVATIONS, replace(RECORDS, holds=holds), "auto")
    assert situation.holds == [
        "maintenance of the environment staging by ann: new disk",
        "paused of the fleet by jo: audit day",
    ]


def test_a_silence_is_held_against_the_runs_alerts_and_without_any_against_the_bot() -> None:
    matcher = {"name": "alertname", "value": "BotDown", "isRegex": False, "isEqual": True}
    silence: dict[str, Any] = {"matchers": [matcher], "createdBy": "ann", "comment": "on it"}
    observations = replace(OBSERVATIONS, silences=Silences([silence]))
    alerts = replace(RECORDS, alerts=[alert("firing", alertname="BotDown")])
    silenced = situation_of(PROPOSAL, observations, alerts, "auto").silenced
    assert silenced == "silenced in Alertmanager by ann: on it"
    assert situation_of(PROPOSAL, observations, RECORDS, "auto").silenced == ""
    silence["matchers"] = [matcher | {"name": "bot", "value": "forge"}]
    assert situation_of(PROPOSAL, observations, RECORDS, "auto").silenced


def test_the_gate_of_silences_says_where_nobody_could_ask() -> None:
    observations = replace(OBSERVATIONS, silences=Silences(doubt="nobody was asked"))
    verdicts = judge(situation_of(PROPOSAL, observations, RECORDS, "auto"), LIMITS)
    assert Verdict("silenced", Effect.go, "nobody was asked") in verdicts


def test_a_fleet_of_three_heals_one_though_another_is_in_quarantine() -> None:
    two_ill = fleet(3, 2)
    assert stopped_by(replace(ILL, fleet=two_ill)) == ("fleet", Effect.hold)
    one_quarantined = with_quarantined(two_ill, 1)
    assert (one_quarantined.unhealthy, one_quarantined.judged, one_quarantined.ratio) == (1, 2, 0.5)
    assert stopped_by(replace(ILL, fleet=one_quarantined)) is None


@pytest.mark.parametrize(("probed", "quarantined", "shut"), [(3, 2, True), (20, 6, False), (20, 7, True)])
def test_more_of_the_fleet_in_quarantine_than_may_be_ill_shuts_the_gate(
    probed: int, quarantined: int, shut: bool
) -> None:
    """One after the other they were given up: the cause is likely shared, and the next would follow."""
    census = with_quarantined(fleet(probed, quarantined + 1), quarantined)
    assert stopped_by(replace(ILL, fleet=census)) == (("fleet", Effect.hold) if shut else None)


def test_a_bot_that_is_well_again_is_counted_whether_in_quarantine_or_not() -> None:
    well = with_quarantined(fleet(4, 0), 2)
    assert (well.unhealthy, well.judged, well.set_aside) == (0, 4, 0)


@pytest.mark.parametrize("gate", ["in_flight", "rate"])
def test_a_run_far_back_in_the_queue_is_asked_less_often(gate: str) -> None:
    stop = Verdict(gate, Effect.hold, "")
    queue = [replace(ILL, queue_position=position) for position in range(1000)]
    waits = [recheck_after(stop, situation, LIMITS, 15) for situation in queue]
    assert waits[0] == 15
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT * 15
    fleet_gate = Verdict("fleet", Effect.hold, "")
    assert recheck_after(fleet_gate, queue[-1], LIMITS, 15) == 15, "no queue forms there"
