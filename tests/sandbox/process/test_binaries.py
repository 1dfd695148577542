"""Programs are found in PATH, or fetched once; here from an apt that is a script."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.process import binaries
from sandbox.process.binaries import BINARIES, Binary, BinaryError, fetch, find, present, version

APT = """#!/bin/sh
case "$*" in *download*) echo download >>{log}; sleep 0.2; : >imaginary_1_amd64.deb ;; esac
"""
DPKG = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/share/prometheus"
echo hello >"$3/usr/share/prometheus/greeting"
printf '#!/bin/sh\\ncat {share}/greeting; echo version 1.2.3\\n' >"$3/usr/bin/imaginary"
chmod 755 "$3/usr/bin/imaginary"
"""
SHARE = "/usr/share/prometheus"


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an apt into PATH that has one package, `imaginary`; returns the file it logs downloads to."""
    tools, log = tmp_path / "bin", tmp_path / "downloads"
    tools.mkdir()
    for name, text in (("apt-get", APT), ("dpkg", DPKG)):
        (tools / name).write_text(text.replace("{log}", str(log)).replace("{share}", SHARE))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setitem(BINARIES, "imaginary", Binary("imaginary", ("imaginary-upstream", "imaginary")))
    return log


def test_a_program_in_path_is_taken_under_either_name(apt: Path, tmp_path: Path) -> None:
    for name in ("imaginary", "imaginary-upstream"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        assert find("imaginary", tmp_path / "cache") == program
    assert not apt.exists()


def test_what_is_nowhere_is_fetched_once_by_many_callers(apt: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert present("imaginary", cache) is None
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: find("imaginary", cache), range(8)))
    assert paths == {cache / "imaginary/usr/bin/imaginary"}
    assert apt.read_text() == "download\n"
    assert sorted(path.name for path in cache.iterdir()) == ["imaginary", "lock"]


def test_a_fetched_program_finds_its_own_files(apt: Path, tmp_path: Path) -> None:
    done = subprocess.run([find("imaginary", tmp_path / "cache")], capture_output=True, text=True, check=True)
    assert done.stdout == "hello\nversion 1.2.3\n"


def test_its_version_is_what_it_says(apt: Path, tmp_path: Path) -> None:
    assert version(find("imaginary", tmp_path / "cache")) == "1.2.3"


def test_a_failed_fetch_names_both_ways_and_leaves_nothing(apt: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "apt-get").write_text("#!/bin/sh\necho no network >&2\nexit 100\n")
    with pytest.raises(BinaryError) as error:
        fetch("imaginary", tmp_path / "cache")
    for part in ("no network", "apt-get install imaginary", "PATH"):
        assert part in str(error.value)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


@pytest.mark.parametrize("name", binaries.STACK)
def test_the_real_ones_run(name: str) -> None:
    assert version(find(name)).split(".")[0].isdigit()
