"""The suite itself: a run that tested nothing fails, and what takes longest is begun first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST, ROOT

pytestmark = pytest.mark.timeout(300)  # where others are at work
SUITE = """
import pytest

@pytest.mark.skip(reason="a test")
def test_skipped():
    pass

def test_passes():
    pass

def test_fails():
    assert False
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest over a suite with this one's conftest."""
    (folder / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (folder / "test_it.py").write_text(SUITE)
    plugins = ["-p", "xdist"] if "--numprocesses" in arguments else []
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", folder, *plugins, *arguments],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # Hypothesis and others load for long
        cwd=folder, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [(), ("--numprocesses", "2")], ids=["alone", "workers"])
def test_a_run_whose_tests_were_all_skipped_fails_and_says_so(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    done = run(tmp_path, *workers, "-k", "skipped")
    assert done.returncode == 1, done.stdout
    assert "Every test was skipped" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-k", "skipped or passes", "--numprocesses", "2"], 0),
        (["-k", "skipped or fails"], 1),
        (["-k", "skipped", "--collect-only"], 0),
        (["-k", "nothing"], 5),
    ],
)
def test_other_runs_end_as_pytest_has_them(tmp_path: Path, arguments: list[str], code: int) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == code, done.stdout
    assert "Every test was skipped" not in done.stdout


def test_the_longest_files_are_there() -> None:
    assert [name for name in LONGEST if not (ROOT / name).is_file()] == []
