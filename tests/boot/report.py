"""What the tests saw, from whoever runs them."""

from __future__ import annotations

from typing import Any

import pytest

FACTS = pytest.StashKey[dict[str, Any]]()


class Report:
    """A plugin of pytest; `facts` are what the tests put into the fixture `report`."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def pytest_configure(self, config: pytest.Config) -> None:
        config.stash[FACTS] = self.facts
