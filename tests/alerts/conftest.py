"""The files under test, and the real tools that judge them."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.process import binaries

Tool = Callable[..., str]
Rule = dict[str, Any]


@pytest.fixture(scope="session")
def alerts() -> Path:
    return Path(__file__).parents[2] / "alerts"


@pytest.fixture(scope="session")
def rules(alerts: Path) -> list[Rule]:
    """Return every rule, recording and alerting."""
    return [
        rule
        for path in sorted(alerts.glob("rules-*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


@pytest.fixture(scope="session")
def alerting(rules: list[Rule]) -> list[Rule]:
    return [rule for rule in rules if "alert" in rule]


def _tool(name: str) -> Tool:
    def run(*arguments: str | Path, cwd: Path | None = None) -> str:
        argv: Sequence[str | Path] = [binaries.find(name), *arguments]
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{name} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def promtool() -> Tool:
    return _tool("promtool")


@pytest.fixture(scope="session")
def amtool() -> Tool:
    return _tool("amtool")
