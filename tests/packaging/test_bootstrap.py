"""scripts/bootstrap where it needs no network: what it says, and that it does nothing twice."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/bootstrap", "pyproject.toml", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def bootstrap(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts/bootstrap"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def stamp(checkout: Path) -> Path:
    """Make a venv as a finished bootstrap leaves it, as far as the next one reads it; return its stamp."""
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    sums = subprocess.run(
        ["sha256sum", "requirements-dev.lock", "pyproject.toml"],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    path = checkout / ".venv/.installed"
    path.write_text(f"{checkout}/.venv\n{sums}")
    return path


def test_a_python_too_old_is_named_with_the_remedies(checkout: Path) -> None:
    old = program(checkout / "old/python3", '[ "$1" = -V ] && echo Python 3.9.2\nexit 1')
    done = bootstrap(checkout, PYTHON=str(old))
    assert done.returncode != 0
    assert "no Python 3.11 or newer" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert "PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_ensurepip_and_without_apt_both_remedies_are_named(checkout: Path) -> None:
    """The python has all but ensurepip; PATH holds what the script needs, and no apt."""
    for tool in ("bash", "sh", "cat", "mkdir", "rm", "flock", "sha256sum", "dirname"):
        (checkout / "bin").mkdir(exist_ok=True)
        (checkout / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    bare = program(checkout / "bin/python3", 'case "$*" in *ensurepip*) exit 1 ;; esac\n[ "$1" = -c ]')
    if list(Path("/usr/share/python-wheels").glob("pip-*.whl")):
        pytest.skip("this machine has Debian's pip wheel, which the bootstrap would use")
    done = bootstrap(checkout, PATH=str(checkout / "bin"), PYTHON=str(bare))
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr
    assert "PYTHON=" in done.stderr


def test_a_finished_venv_is_left_alone(checkout: Path) -> None:
    before = stamp(checkout).stat().st_mtime_ns
    done = bootstrap(checkout, PYTHON="/nonexistent")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (checkout / ".venv/.installed").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["requirements-dev.lock", "pyproject.toml"])
def test_a_changed_lock_or_package_list_is_installed(checkout: Path, name: str) -> None:
    """pip is a stand-in that writes down what it was asked for."""
    path = stamp(checkout)
    (checkout / ".venv/bin/python").unlink()
    program(checkout / ".venv/bin/python", f'echo "$@" >>{checkout}/asked')
    (checkout / name).write_text((checkout / name).read_text() + "\n")
    assert bootstrap(checkout).returncode == 0
    lock, package = [line for line in (checkout / "asked").read_text().splitlines() if "-m pip" in line]
    assert "--require-hashes" in lock
    assert "--no-deps --no-build-isolation --editable ." in package
    first = path.read_text()
    assert bootstrap(checkout, PYTHON="/nonexistent").returncode == 0
    assert path.read_text() == first


def test_a_venv_whose_installation_broke_off_is_not_taken_for_whole(checkout: Path) -> None:
    stamp(checkout)
    (checkout / ".venv/bin/python").unlink()
    program(checkout / ".venv/bin/python", '[ "$1" = -c ]')
    (checkout / "requirements-dev.lock").write_text("")
    assert bootstrap(checkout).returncode != 0
    assert not (checkout / ".venv/.installed").exists()
