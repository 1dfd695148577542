"""Every target of the Makefile does what its help says; `bench` is in tests/benchmarks/test_quick.py.

Targets that write, or that must find a fault, work on a small tree of their own with the real Makefile, where
`make setup` has nothing to do. Those that take minutes or the network run a Python there that only notes how
it was called.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sandbox.__main__ import parser

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"bench"}
pytestmark = pytest.mark.timeout(300)  # where others are at work
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$(printf '%s\\t' "$@")" >>"$(dirname "$0")/calls"
"""


def make(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run make as from a shell: not as a child of the make or the pytest that runs these tests."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST_"))
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a tree in which `make setup` is done: its Python is the one that runs the tests."""
    for name in ("Makefile", "pyproject.toml", "requirements-dev.lock", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    put(tmp_path / ".venv/bin/python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    names = ["requirements-dev.lock", "pyproject.toml"]
    sums = subprocess.run(["sha256sum", *names], cwd=tmp_path, capture_output=True, text=True, check=True)
    put(tmp_path / ".venv/.installed", f"{tmp_path}/.venv\n{sums.stdout}")
    return tmp_path


def put(path: Path, text: str) -> None:
    """Write an executable file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def calls(checkout: Path, *arguments: str) -> list[list[str]]:
    """Run make with a Python that does nothing; returns the arguments of each call of it."""
    put(checkout / ".venv/bin/python", RECORDER)
    done = make(*arguments, cwd=checkout)
    assert done.returncode == 0, done.stderr
    lines = (checkout / ".venv/bin/calls").read_text().splitlines()
    return [words for line in lines if (words := line.rstrip("\t").split("\t"))[0] != "-c"]  # bootstrap's


def test_every_target_is_exercised() -> None:
    """By a call of `make` with its name in this file, or elsewhere."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    exercised = set(re.findall(r'(?:make\(|calls\(checkout, )"([a-z]+)"', Path(__file__).read_text()))
    assert set(targets) == exercised | ELSEWHERE


def test_help_is_what_make_shows_without_a_target() -> None:
    done = make("help")
    assert "make demo" in done.stdout
    assert make().stdout == done.stdout


def test_setup_does_nothing_twice(checkout: Path) -> None:
    done = make("setup", cwd=checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_test_hands_its_arguments_to_pytest() -> None:
    done = make("test", "ARGS=--collect-only -q -p no:cacheprovider tests/templates", "WORKERS=0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/templates/" in done.stdout


def test_lint_finds_what_is_wrong_and_what_is_not_formatted(checkout: Path) -> None:
    source = checkout / "exporter/x.py"
    put(source, "x = 1\n")
    source.chmod(0o644)
    assert make("lint", cwd=checkout).returncode == 0
    source.write_text("import os\n\nx = 1\n")
    assert "F401" in make("lint", cwd=checkout).stdout
    source.write_text("x  =  1\n")
    done = make("lint", cwd=checkout)
    assert done.returncode != 0
    assert "exporter/x.py" in done.stdout


def test_types_finds_a_wrong_one_in_any_package(checkout: Path) -> None:
    packages = ("botctl", "exporter", "remediator", "templates", "dashboards", "sandbox", "tests")
    for package in packages:
        put(checkout / package / "__init__.py", f'x: int = "{package}"\n')
    done = make("types", cwd=checkout)
    assert done.returncode != 0
    assert all(f"{package}/__init__.py:1: error" in done.stdout for package in packages), done.stdout


def test_generate_finds_no_difference_in_what_is_committed() -> None:
    done = make("generate", "CHECK=1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_simulate_runs_as_many_seeds_as_it_is_given() -> None:
    done = make("simulate", "SEEDS=3", "ARGS=--processes 1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["seeds"] == 3


def test_chaos_kills_and_judges() -> None:
    done = make("chaos", "ARGS=--seconds 1 --bots 2 --database sqlite --seed 4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["well"] is True


def test_boot_hands_its_arguments_on(checkout: Path) -> None:
    """To tests/boot, which needs root and a minute, and is not part of the suite."""
    assert calls(checkout, "boot", "ARGS=-k first") == [["-m", "tests.boot", "-k", "first"]]


def sandbox_arguments(commands: Sequence[Sequence[str]]) -> list[str]:
    """Return what the one call gives to the sandbox's command line."""
    (command,) = commands
    assert command[:2] == ["-m", "sandbox"]
    return list(command[2:])


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("real", [True, False])
def test_demo_is_a_command_of_the_sandbox(checkout: Path, check: bool, real: bool) -> None:
    """What it then does is in tests/sandbox/demo, and `make demo CHECK=1` is a stage of the CI."""
    variables = [name for name, set_ in (("CHECK=1", check), ("REAL=1", real)) if set_]
    commands = calls(checkout, "demo", *variables)
    options = parser().parse_args(sandbox_arguments(commands))
    assert (options.check, options.real, options.svg, options.state) == (check, real, None, None)


def test_picture_draws_the_one_that_the_readme_shows(checkout: Path) -> None:
    options = parser().parse_args(sandbox_arguments(calls(checkout, "picture")))
    assert (ROOT / options.svg).exists()
    assert str(options.svg) in (ROOT / "README.md").read_text()
    assert options.check


@pytest.mark.parametrize("upgrade", [True, False])
def test_lock_resolves_each_lock_and_names_no_index(checkout: Path, upgrade: bool) -> None:
    commands = calls(checkout, "lock", "UPGRADE=1") if upgrade else calls(checkout, "lock")
    install, *compilations = commands
    assert install[:2] == ["-m", "pip"]
    assert install[-1] == "uv"
    outputs = [command[command.index("--output-file") + 1] for command in compilations]
    assert sorted(outputs) == sorted(path.name for path in ROOT.glob("requirements*.lock"))
    assert ["--upgrade" in command for command in compilations] == [upgrade, False, False]
    for command in compilations:
        assert {"pyproject.toml", "--generate-hashes", "--no-emit-index-url"} <= set(command)


def test_clean_leaves_what_was_there_before(checkout: Path) -> None:
    made = (".cache/x", ".mypy_cache/x", ".ruff_cache/x", "build/x", "exporter/__pycache__/x", "a.egg-info/x")
    for name in (*made, "exporter/x.py"):
        put(checkout / name, "")
    assert make("clean", cwd=checkout).returncode == 0
    names = {str(path.relative_to(checkout)) for path in checkout.rglob("*")}
    assert names >= {"exporter/x.py", "Makefile", "pyproject.toml", "scripts/bootstrap"}
    assert not {name for name in names if name.startswith((".", "build")) or "__pycache__" in name}
    assert "a.egg-info" not in names
