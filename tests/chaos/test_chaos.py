"""The short version of `python -m tests.chaos`, and that its judge sees what is done twice."""

from pathlib import Path
from typing import get_args

import pytest

from tests.chaos.faults import DatabaseKind, doubled, run_chaos
from tests.remediator.conftest import credentials


@pytest.fixture(autouse=True)
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in credentials().items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("database", get_args(DatabaseKind))
async def test_killed_frozen_and_cut_off_every_run_ends_and_nothing_is_done_twice(
    tmp_path: Path, database: DatabaseKind
) -> None:
    report = await run_chaos(tmp_path, database, 4, 4, bots=3)
    assert report.well, report.view()
    assert report.killed + report.frozen + report.cut_off > 0
    assert report.runs > 0
    assert report.effects > 3, "more than the fleet's own launch"


def test_an_effect_without_an_intent_of_its_own_is_found() -> None:
    steps = [("a", "launch"), ("a", "restart"), ("a", "reboot"), ("b", "launch"), ("b", "image")]
    once = [("a", "run"), ("a", "restart"), ("a", "reboot"), ("b", "run"), ("b", "start")]
    assert doubled(once, steps) == []
    assert doubled([*once, ("a", "reboot")], steps) == ["a: reboot 2 times, meant 1"]
    assert doubled([*once, ("b", "run"), ("b", "restart")], steps) == [
        "b: restart 1 times, meant 0",
        "b: run 2 times, meant 1",
    ]
