"""What is tracked: nothing of one machine, nothing secret, and a CI that runs what the README names."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, commands

ROOT = Path(__file__).parents[2]

CREDENTIALS = {
    "AWS access key": r"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "Telegram token": r"\b\d{8,10}:[A-Za-z0-9_-]{35}(?![\w-])",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}",
    "API key": r"\bsk-[A-Za-z0-9_-]{20,}",
    "Slack token": r"\bxox[baprs]-[A-Za-z0-9-]{10,}",
}


def tracked() -> list[Path]:
    """Return the files that git tracks; skip the test where there is no git."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git work tree")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def hits(pattern: str) -> list[str]:
    """Return `path: text` of each match in a tracked file."""
    expression = re.compile(pattern)
    return [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        for match in expression.finditer(path.read_text(errors="replace"))
    ]


def test_no_path_of_one_machine_is_named() -> None:
    homes = r"(?<![\w.])/(home|Users)/(?!bot\b|ubuntu\b)\w+|file:///[a-z]"
    assert hits(homes) == []
    if len(ROOT.parts) > 2:  # a checkout in `/src` proves nothing
        assert hits(rf"{re.escape(str(ROOT))}\b") == []


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_no_credential_is_tracked(kind: str) -> None:
    assert hits(CREDENTIALS[kind]) == []


def test_a_planted_credential_would_be_found() -> None:
    planted = {
        "AWS access key": "AKIA" + "A1" * 8,
        "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
        "Telegram token": "1234567890:" + "aB3_-" * 7,
        "GitHub token": "ghp_" + "a1" * 18,
        "API key": "sk-" + "ant-api03-" * 3,
        "Slack token": "xoxb-" + "1234567890",
    }
    assert all(re.search(CREDENTIALS[kind], text) for kind, text in planted.items())
    assert planted.keys() == CREDENTIALS.keys()


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_ci_runs_all_that_make_can_check() -> None:
    text = (ROOT / ".ci/run").read_text()
    commands = re.findall(r"^(?:stage \d+ \w+|begin \d+) (make .+?)(?: >.+)?$", text, re.MULTILINE)
    checks = {
        "make test",
        "make boot",
        "make lint",
        "make types",
        "make generate CHECK=1",
        "make demo CHECK=1",
    }
    assert checks <= set(commands)


def faults_of(command: str) -> list[str]:
    """Return what a `make` command of the documents asks for that there is not."""
    makefile = (ROOT / "Makefile").read_text()
    _, *words = shlex.split(command, comments=True)
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    benchmark = variables.get("BENCH")
    return [
        *({word for word in words if "=" not in word} - make_targets()),
        *(name for name in variables if f"$({name})" not in makefile and f"$(if $({name})" not in makefile),
        *([benchmark] if benchmark and not (ROOT / f"tests/benchmarks/{benchmark}.py").is_file() else []),
    ]


def test_the_make_commands_of_every_page_exist() -> None:
    lines = {command.text for page in PAGES for command in commands(page)}
    named = {line for line in lines if line.startswith("make ")}
    assert len(named) > 10
    assert {line: faults for line in named if (faults := faults_of(line))} == {}


@pytest.mark.parametrize("command", ["make tset", "make bench BENCH=nothing", "make test WROKERS=2"])
def test_a_make_command_that_there_is_not_is_found(command: str) -> None:
    assert len(faults_of(command)) == 1


def test_the_readme_names_what_ci_runs() -> None:
    targets = re.findall(r"^\s*(?:\$ )?make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)


def test_every_target_explains_itself_in_make_help() -> None:
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z]+)", text, re.MULTILINE)) == make_targets() - {"setup"}
