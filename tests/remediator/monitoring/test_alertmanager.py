from typing import Any

import aiohttp
import pytest

from remediator.monitoring.alertmanager import Alertmanager, matches, silenced_by
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
        ([matcher(value=r"\pN+", isRegex=True)], False),  # Go's syntax, not Python's
    ],
)
def test_matchers_cover_what_alertmanagers_cover(matchers: list[dict[str, Any]], covers: bool) -> None:
    assert matches(matchers, FORGE) == covers


def test_a_silence_of_any_of_the_alerts_is_told_with_its_author_and_comment() -> None:
    silence = {"matchers": [matcher()], "createdBy": "ann", "comment": "on it"}
    assert silenced_by([silence], [{"bot": "atlas"}, FORGE]) == "silenced in Alertmanager by ann: on it"
    assert silenced_by([silence], [{"bot": "atlas"}]) == ""
    assert silenced_by([{"matchers": [matcher()]}], [FORGE]) == "silenced in Alertmanager by somebody: "


async def test_an_alertmanager_that_is_away_or_not_set_has_no_silences() -> None:
    async with aiohttp.ClientSession() as session:
        assert await Alertmanager(None, session).silences() == []
        assert await Alertmanager(f"http://127.0.0.1:{free_port()}", session).silences() == []
