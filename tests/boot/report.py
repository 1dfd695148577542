"""What the tests saw, from whoever runs them."""

from __future__ import annotations

from typing import Any

import pytest

FACTS = pytest.StashKey[dict[str, Any]]()


class Report:
    """A plugin of pytest; `facts` are what the tests put into the fixture `report`.

    `skipped`: the reasons, by test.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.nodeid.rpartition("::")[2]] = report.longrepr[2].removeprefix("Skipped: ")

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[FACTS] = self.facts
