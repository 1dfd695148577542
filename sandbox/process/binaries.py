"""Real programs, such as Prometheus and Alertmanager: from PATH, else fetched once with apt, without root.

Nothing is installed: what is fetched lies in `.cache/debian/<package>/` of this repository.
"""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "debian"
APT_SECONDS = 300
SHARE = "usr/share/prometheus"
WRAPPER = f"""#!/bin/sh
here=$(dirname "$0")
exec 9<"$here/../../{SHARE}"
exec "$here/$(basename "$0").bin" "$@"
"""


class BinaryError(RuntimeError):
    """A program can be neither found nor fetched. The message names the ways to get it."""


@dataclass(frozen=True, slots=True)
class Binary:
    """A program: its names in PATH, the package's own last, and the Debian packages that may hold it."""

    package: str
    names: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()  # in other releases

    @property
    def packages(self) -> tuple[str, ...]:
        return self.package, *self.elsewhere


BINARIES = {
    "prometheus": Binary("prometheus", ("prometheus",)),
    "promtool": Binary("prometheus", ("promtool",), elsewhere=("promtool",)),  # Debian 13
    "alertmanager": Binary("prometheus-alertmanager", ("alertmanager", "prometheus-alertmanager")),
    "amtool": Binary("prometheus-alertmanager", ("amtool",)),
    "age": Binary("age", ("age",)),
    "age-keygen": Binary("age", ("age-keygen",)),
    "blackbox_exporter": Binary(
        "prometheus-blackbox-exporter", ("blackbox_exporter", "prometheus-blackbox-exporter")
    ),
}
STACK = ("prometheus", "promtool", "alertmanager", "amtool")


def find(name: str, cache: Path = CACHE) -> Path:
    """Return the program's path. It is fetched if need be, which takes seconds, and only once."""
    return present(name, cache) or fetch(name, cache)


def present(name: str, cache: Path = CACHE) -> Path | None:
    """Return the program's path if it is there without fetching."""
    binary = BINARIES[name]
    for candidate in binary.names:
        if in_path := shutil.which(candidate):
            return Path(in_path)
    cached = [cache / package / "usr/bin" / binary.names[-1] for package in binary.packages]
    return next((path for path in cached if path.exists()), None)


def fetch(name: str, cache: Path = CACHE) -> Path:
    """Download a program; BinaryError names the other ways where that fails."""
    binary = BINARIES[name]
    with lock(cache):
        for package in binary.packages:
            if (path := present(name, cache)) is not None:  # another process fetched it while we waited
                return path
            if not (cache / package).exists():
                try:
                    store(package, cache)
                except (OSError, subprocess.SubprocessError) as error:
                    raise BinaryError(explain(name, error)) from error
    path = present(name, cache)
    if path is None:
        packages = " and ".join(binary.packages)
        raise BinaryError(f"no /usr/bin/{binary.names[-1]} in the Debian packages {packages}")
    return path


def unpacked(package: str, *more: str, cache: Path = CACHE) -> Path:
    """Return the tree of a Debian package and of `more` that it needs; BinaryError where apt fails."""
    with lock(cache):
        if not (cache / package).exists():
            try:
                store(package, cache, *more)
            except (OSError, subprocess.SubprocessError) as error:
                raise BinaryError(f"apt could not fetch {package} ({_reason(error)})") from error
    return cache / package


def store(package: str, cache: Path, *more: str) -> None:
    """Put the unpacked package into the cache: whole, or not at all."""
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        tree = unpack([package, *more], Path(folder))
        relocate(tree)
        tree.rename(cache / package)


def unpack(packages: Sequence[str], folder: Path) -> Path:
    """Download the packages with an apt of our own folders, and unpack them; returns the tree."""
    for name in ("state/lists/partial", "cache/archives/partial", "deb", "tree"):
        (folder / name).mkdir(parents=True)
    apt = [
        "apt-get",
        "-q",
        "-o",
        f"Dir::State={folder}/state",
        "-o",
        "Dir::State::status=/var/lib/dpkg/status",
    ]
    # apt drops to the user `_apt` when run by root, who may not write here.
    apt += ["-o", f"Dir::Cache={folder}/cache", "-o", "APT::Sandbox::User=root"]
    run([*apt, "update"], folder)
    run([*apt, "download", *packages], folder / "deb")
    for archive in (folder / "deb").glob("*.deb"):
        run(["dpkg", "-x", str(archive), str(folder / "tree")], folder)
    return folder / "tree"


def relocate(tree: Path) -> None:
    """Let the programs find their own files where they lie now.

    Debian compiles the path of templates and web pages in, and Alertmanager needs the former to start.
    The path is replaced by one of the same length, a descriptor that a wrapper opens on the folder.
    """
    compiled_in = f"/{SHARE}".encode()
    opened = b"/proc/self/fd/9".ljust(len(compiled_in) - 1, b"/") + b"."
    for program in (tree / "usr/bin").glob("*"):
        content = program.read_bytes()
        if compiled_in in content:
            real = program.with_name(f"{program.name}.bin")
            real.write_bytes(content.replace(compiled_in, opened))
            program.write_text(WRAPPER)
            for file in (real, program):
                file.chmod(0o755)


def run(argv: list[str], cwd: Path) -> None:
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True, text=True, timeout=APT_SECONDS)


def explain(name: str, error: Exception) -> str:
    """Return the reason why there is no such program, and the ways to get it."""
    binary = BINARIES[name]
    return (
        f"{name}: not in PATH as {' or '.join(binary.names)}, and apt could not fetch it ({_reason(error)})\n"
        f"  either install it:  sudo apt-get install {binary.package}\n"
        f"  or put it in PATH:  from https://prometheus.io/download/"
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "stderr", None) or error).strip()


def version(path: Path) -> str:
    """Return the version that the program prints."""
    result = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"version (\S+)", result.stdout + result.stderr)
    return match[1] if match else "unknown version"


@contextmanager
def lock(cache: Path) -> Iterator[None]:
    """Hold the cache against other processes until the block ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
