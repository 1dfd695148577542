"""The locks: complete, hashed, and naming no index."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "requirements.lock": [],
    "requirements-sandbox.lock": ["sandbox"],
    "requirements-dev.lock": ["dashboards", "sandbox", "dev"],
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, str]:
    """Return what a lock has for each name: the version and all that follows it."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
    return {normal(entry.partition("==")[0]): entry.partition("==")[2] for entry in entries}


def required(extras: list[str]) -> set[str]:
    lines = [*PROJECT["dependencies"]]
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    names = {normal(re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0]) for line in lines}
    return names - {normal(PROJECT["name"])}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_pinned_and_hashed(lock: str) -> None:
    for name, rest in locked(lock).items():
        assert re.match(r"\d[\w.]*( ; [^\\]+)? \\\n", rest), f"{name} is not pinned to a version"
        assert re.fullmatch(r"( +--hash=sha256:[0-9a-f]{64}( \\)?\n?)+", rest.partition("\n")[2]), name


@pytest.mark.parametrize("lock", LOCKS)
def test_no_index_or_address_is_named(lock: str) -> None:
    """Nothing is in it but names, versions, markers and hashes."""
    name, marker = r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==\d[\w.]*", r" ; [\w.'<>=!() ]+"
    for line in (ROOT / lock).read_text().splitlines():
        assert re.fullmatch(rf"{name}({marker})? \\| +--hash=sha256:[0-9a-f]{{64}}( \\)?", line), line


@pytest.mark.parametrize(("lock", "extras"), LOCKS.items())
def test_every_dependency_of_pyproject_is_locked(lock: str, extras: list[str]) -> None:
    assert required(extras) - set(locked(lock)) == set()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-sandbox.lock"])
def test_the_image_has_the_versions_the_tests_ran_with(lock: str) -> None:
    tested = locked("requirements-dev.lock")
    for name, rest in locked(lock).items():
        assert rest.split()[0] == tested[name].split()[0], name


def test_the_service_image_carries_nothing_of_the_sandbox_or_the_tests() -> None:
    assert locked("requirements.lock").keys() & {"moto", "flask", "pytest", "grafanalib"} == set()


def test_the_build_backend_is_locked_for_builds_without_isolation() -> None:
    assert "setuptools" in locked("requirements-dev.lock")
