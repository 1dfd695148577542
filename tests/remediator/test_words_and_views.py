from dataclasses import replace
from typing import Any

import pytest

from exporter.targets import parse_groups
from remediator import views
from remediator.model import Bot, Run, Step, StoredVerdict
from remediator.words import message

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "BotDown is firing", "restart", 0.0, None)
BOT = Bot(
    **{
        **dict.fromkeys(Bot.__slots__),
        "name": "forge",
        "template": "support",
        "environment": "staging",
        "state": "active",
        "address": "10.0.0.5:18790",
        "health_path": "/health",
        "mesh_path": "/ready",
        "instance_id": "i-1",
        "config": {"secret": "planted"},
        "config_sha": "c0ffee",
        "created_at": 0.0,
        "updated_at": 0.0,
    }  # type: ignore[arg-type]
)


def step(name: str, state: Any, **rest: Any) -> Step:
    made = {
        "request": {"instance_id": "i-1"},
        "result": {},
        "detail": "",
        "acted_at": None,
        "finished_at": None,
    }
    return Step(id=1, run_id="rec-1", name=name, state=state, intended_at=1.0, **{**made, **rest})


@pytest.mark.parametrize(
    ("kind", "outcome", "begins"),
    [
        ("deploy", "deployed", "✅ forge is deployed and healthy after 12 s"),
        ("deploy", "failed", "❌ forge could not be deployed"),
        ("recover", "recovered", "✅ forge is healthy again after 12 s"),
        ("recover", "escalated", "🚨 forge needs a person"),
    ],
)
def test_people_are_told_what_came_of_it_why_and_where_to_look(kind: Any, outcome: str, begins: str) -> None:
    run = replace(RUN, kind=kind)
    text = message(run, outcome, "because", 12.3, "http://bots.example/")
    assert text.startswith(begins)
    assert "because" in text
    path = "deploy" if kind == "deploy" else "recover"
    assert text.endswith(f"\nhttp://bots.example/{path}/rec-1")
    assert message(run, outcome, "because", 12.3, "").endswith("\nrec-1")


@pytest.mark.parametrize("outcome", ["unneeded", "resolved", "cancelled"])
def test_people_are_not_told_of_what_needed_nothing(outcome: str) -> None:
    assert message(RUN, outcome, "", 1, "") == ""


def test_times_are_utc_to_the_millisecond() -> None:
    assert views.iso(1_700_000_000.123) == "2023-11-14T22:13:20.123Z"
    assert views.maybe_iso(None) is None


def test_a_recovery_shows_its_tiers_apart_from_their_sub_steps() -> None:
    steps = [
        step("restart", "not_cured", detail="500", finished_at=3.0),
        step("redeploy", "acted", acted_at=2.0),
        step("launch", "intended"),
    ]
    verdict = StoredVerdict(1, "rec-1", 1.0, "restart", "fleet", False, "3 of 4 bots are ill")
    view = views.recovery(RUN, steps, [verdict])
    assert [(one["tier"], one["outcome"]) for one in view["attempts"]] == [
        ("restart", "not_cured"),
        ("redeploy", "running"),
    ]
    assert [(one["name"], one["status"]) for one in view["steps"]] == [("launch", "running")]
    assert view["gates"][0]["verdict"] == "closed"
    assert (view["recoveryId"], view["botId"], view["status"]) == ("rec-1", "forge", "running")


def test_the_registry_as_http_sd_is_what_the_exporter_reads() -> None:
    parsed = parse_groups(views.service_discovery([BOT, replace(BOT, name="new", state="deploying")]), "sd")
    assert parsed.problems == ()
    (target,) = parsed.targets
    assert target.health_url == "http://10.0.0.5:18790/health"
    assert target.mesh_url == "http://10.0.0.5:18790/ready"
    assert (target.bot, target.template, target.environment, target.instance_id) == (
        "forge",
        "support",
        "staging",
        "i-1",
    )


def test_a_quarantined_bot_is_shown_as_one() -> None:
    assert views.bot(BOT, 12.0)["state"] == "active"
    assert views.bot(replace(BOT, quarantined_at=5.0), None)["state"] == "quarantined"
