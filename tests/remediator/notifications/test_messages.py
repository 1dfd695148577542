from dataclasses import replace
from typing import Any

import pytest

from remediator.model import Run
from remediator.notifications.messages import (
    approval_wanted,
    message,
    monitoring_lost,
    monitoring_restored,
    truncated,
)

RUN = Run("rec-1", "recover", "forge", "alert", "", "running", "BotDown is firing", "restart", 0.0, None)


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


def test_a_question_says_what_is_ill_how_to_answer_and_until_when() -> None:
    question = approval_wanted(RUN, "reboot", "/health: connect_refused", 1800)
    assert "forge is ill (/health: connect_refused). May I reboot it?" in question
    assert {"/approve rec-1", "/deny rec-1"} <= set(question.splitlines())
    assert "30 min" in question


def test_a_loss_of_monitoring_says_why_and_a_payload_cut_short_what_to_set() -> None:
    assert "the exporter is down" in monitoring_lost("the exporter is down")
    assert monitoring_restored() not in monitoring_lost("")
    assert "left 3 alerts out" in truncated(3)
    assert "max_alerts: 0" in truncated(3)
