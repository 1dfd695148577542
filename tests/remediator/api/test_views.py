from dataclasses import replace
from typing import Any

from exporter.targets import parse_groups
from remediator.api import views
from remediator.model import Bot, Run, Step, StoredVerdict
from remediator.timestamps import iso, maybe_iso

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
    """Make a step of RUN."""
    fields = {
        "request": {"instance_id": "i-1"},
        "result": {},
        "detail": "",
        "acted_at": None,
        "finished_at": None,
    }
    return Step(id=1, run_id="rec-1", name=name, state=state, intended_at=1.0, **{**fields, **rest})


def test_times_are_utc_to_the_millisecond() -> None:
    assert iso(1_700_000_000.123) == "2023-11-14T22:13:20.123Z"
    assert maybe_iso(None) is None


def test_a_recovery_shows_its_tiers_apart_from_their_sub_steps() -> None:
    steps = [
        step("restart", "not_cured", detail="500", finished_at=3.0),
        step("redeploy", "acted", acted_at=2.0),
        step("launch", "intended"),
    ]
    verdict = StoredVerdict(1, "rec-1", 1.0, "restart", "fleet", False, "3 of 4 bots are ill")
    view = views.recovery(RUN, steps, [verdict])
    assert [(attempt["tier"], attempt["outcome"]) for attempt in view["attempts"]] == [
        ("restart", "not_cured"),
        ("redeploy", "running"),
    ]
    assert [(step["name"], step["status"]) for step in view["steps"]] == [("launch", "running")]
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
