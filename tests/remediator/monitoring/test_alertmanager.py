"""Whom a silence covers, and what holds while Alertmanager does not answer."""

import time
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from remediator.monitoring import cached
from remediator.monitoring.alertmanager import KNOWN_FOR, NOT_SET, Alertmanager, Silences, matches
from sandbox.process.processes import free_port

FORGE = {"bot": "forge", "template": "support"}


def matcher(name: str = "bot", value: str = "forge", **changes: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "isRegex": False, "isEqual": True, **changes}


@pytest.mark.parametrize(
    ("matchers", "covers"),
    [
        ([matcher()], True),
        ([matcher(value="atlas")], False),
        ([matcher(), matcher("template", "designer")], False),
        ([matcher(value="for.*", isRegex=True)], True),
        ([matcher(value="for", isRegex=True)], False),  # anchored
        ([matcher(value="atlas", isEqual=False)], True),
        ([matcher("zone", "")], True),  # an absent label is empty
        # Go's syntax, not Python's.
        ([matcher(value=r"\pN+", isRegex=True)], False),
        ([matcher(value="for(?i)GE", isRegex=True)], True),
        ([matcher(value="[[:alpha:]]+", isRegex=True)], True),
        ([matcher(value="(?P<name>f)orge|x", isRegex=True)], True),
        ([matcher(value="f\\Qorge\\E", isRegex=True)], True),
        ([matcher("zone", ".*", isRegex=True)], True),
        ([matcher(value="for.*", isRegex=True, isEqual=False)], False),
        # What neither reads covers all, whatever it asks for, as somebody wanted something to be left alone.
        ([matcher(value="(?=f)", isRegex=True)], True),
        ([matcher(value="(?=f)", isRegex=True), matcher("template", "designer")], False),
    ],
)
def test_matchers_cover_what_alertmanagers_cover(matchers: list[dict[str, Any]], covers: bool) -> None:
    assert matches(matchers, FORGE) == covers


def test_a_pattern_that_backtracks_elsewhere_is_matched_in_linear_time() -> None:
    """Python's `re` would take longer than the universe has: the limit of this test is its proof."""
    assert not matches([matcher(value="(a|aa)+$", isRegex=True)], {"bot": "a" * 60 + "b"})


def test_a_silence_of_any_of_the_alerts_is_told_with_its_author_and_comment() -> None:
    silences = Silences([{"matchers": [matcher()], "createdBy": "ann", "comment": "on it"}])
    assert silences.covering([{"bot": "atlas"}, FORGE]) == "silenced in Alertmanager by ann: on it"
    assert silences.covering([{"bot": "atlas"}]) == ""
    nobody = Silences([{"matchers": [matcher()]}])
    assert nobody.covering([FORGE]) == "silenced in Alertmanager by somebody: "


async def test_an_alertmanager_that_was_never_heard_or_is_not_set_has_no_silences_and_says_so() -> None:
    async with aiohttp.ClientSession() as session:
        assert await Alertmanager(None, session).silences() == Silences(doubt=NOT_SET)
        away = await Alertmanager(f"http://127.0.0.1:{free_port()}", session).silences()
    assert away.active == ()
    assert "does not answer" in away.doubt


@pytest.mark.parametrize("status", [503, 404, 200])
async def test_no_answer_is_not_no(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Alertmanager last told holds for an hour, but for silences that are over by then."""
    now = time.time()
    ends = [datetime.fromtimestamp(now + seconds, UTC).isoformat() for seconds in (60, 7200)]
    short, long = ({"matchers": [matcher()], "status": {"state": "active"}, "endsAt": end} for end in ends)
    answers: list[web.Response] = [web.json_response([short, long])]

    async def answer(_: web.Request) -> web.Response:
        return answers.pop() if answers else web.json_response({"error": "starting"}, status=status)

    app = web.Application()
    app.router.add_get("/api/v2/silences", answer)
    monkeypatch.setattr(cached, "MAX_AGE", -1.0)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        alertmanager = Alertmanager(str(server.make_url("")), session)
        assert await alertmanager.silences() == Silences([short, long])
        known = await alertmanager.silences()
        assert known.active == [short, long]
        assert "not answered since" in known.doubt
        assert known.doubt in known.covering([FORGE])
        monkeypatch.setattr(time, "time", lambda: now + 90)
        assert (await alertmanager.silences()).active == [long]
        monkeypatch.setattr(time, "time", lambda: now + KNOWN_FOR + 60)
        assert (await alertmanager.silences()).active == ()
