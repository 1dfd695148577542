"""The pages for people."""

import cProfile

import pytest

from exporter.fleet.fleet import Bot
from exporter.observation import State
from exporter.result import Reason
from exporter.targets import Target
from exporter.web import pages


def bots() -> list[Bot]:
    return [
        Bot(Target("well", "127.0.0.1:1", template="support"), State(score=100)),
        Bot(Target("dead", "127.0.0.1:1", template="manager"), State(0, 3, health=Reason.tls)),
        Bot(Target("new", "127.0.0.1:1", template="<b>")),
    ]


def test_the_worst_bots_come_first_and_the_unknown_last() -> None:
    text = pages.index(bots(), "", "1.0")
    positions = [text.index(f"bot={name}&amp;debug=true") for name in ("dead", "well", "new")]
    assert positions == sorted(positions)
    assert "critical" in text
    assert "not yet probed" in text


def test_a_bot_without_a_mesh_is_shown_without_one() -> None:
    bot = Bot(Target("shop", "127.0.0.1:1", mesh_path="none"), State(score=100))
    assert "<td>ok</td><td>none</td>" in pages.index([bot], "", "1.0")


def test_search_finds_name_template_and_reason() -> None:
    for term, bot in (("DEAD", "dead"), ("support", "well"), ("tls", "dead")):
        text = pages.index(bots(), term, "1.0")
        assert text.count("<tr><td>") == 1
        assert f"bot={bot}&amp;" in text


def test_what_is_shown_is_escaped() -> None:
    text = pages.index(bots(), '"><script>', "1.0")
    assert "<script>" not in text
    assert "&lt;b&gt;" in pages.index(bots(), "", "1.0")


def test_any_fleet_makes_a_small_page() -> None:
    fleet = [Bot(Target(f"bot-{n}", "127.0.0.1:1"), State(score=n % 101)) for n in range(50_000)]
    text = pages.index(fleet, "bot", "1.0")
    assert text.count("<tr><td>") == 100
    assert "100 of 50000" in text
    assert len(text) < 50_000


@pytest.mark.parametrize("search", ["", "bot", "tls"])
def test_the_work_for_a_page_grows_with_the_fleet_by_one_test_of_each_bot(search: str) -> None:
    """Counted in calls, as time depends on the machine's load: rows are made for those on the page alone."""
    ill = State(0, 3, health=Reason.tls)

    def calls(bots: int) -> int:
        fleet = [Bot(Target(f"bot-{n}", "127.0.0.1:1"), ill) for n in range(bots)]
        profile = cProfile.Profile()
        profile.runcall(pages.index, fleet, search, "1.0")
        return sum(entry.callcount for entry in profile.getstats())

    assert (calls(50_000) - calls(10_000)) / 40_000 <= 4
