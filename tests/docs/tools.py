"""Programs that the documents call: jq, curl and age, from PATH or out of Debian's packages.

As with Prometheus nothing is installed: what is fetched lies in `.cache/debian/`.
"""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sandbox.process.binaries import CACHE, find, lock, run

# HTTP's refusals become exit codes, and so does a filter that finds nothing.
STRICTER = {"curl": "--fail-with-body", "jq": "--exit-status"}
LAUNCHER = """#!/bin/sh
export LD_LIBRARY_PATH={libraries}
exec {program} {options} "$@"
"""


def make_tools(folder: Path) -> Path:
    """Write a folder for PATH with the programs, fetching what this machine lacks; return it."""
    folder.mkdir()
    for name in ("age", "age-keygen", "amtool", "promtool"):
        (folder / name).symlink_to(find(name))
    for name, option in STRICTER.items():
        program, libraries = with_libraries(name)
        launcher = folder / name
        launcher.write_text(LAUNCHER.format(program=program, libraries=libraries, options=option))
        launcher.chmod(0o755)
    return folder


def with_libraries(name: str, cache: Path = CACHE) -> tuple[Path, str]:
    """Return a program and the folders of its libraries: PATH's and none, else the Debian package's."""
    if present := shutil.which(name):
        return Path(present), ""
    with lock(cache):
        tree = cache / name
        if not tree.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                download(name, Path(folder))
                (Path(folder) / "tree").rename(tree)
    folders = {library.parent for library in tree.rglob("*.so.*")}
    return tree / "usr/bin" / name, ":".join(map(str, sorted(folders)))


def download(package: str, folder: Path) -> None:
    """Unpack a Debian package and what it needs beside what is installed into `folder/tree`."""
    for name in ("state/lists/partial", "cache/archives/partial", "tree"):
        (folder / name).mkdir(parents=True)
    apt = ["apt-get", "-q", "-y", *options(folder)]
    run([*apt, "update"], folder)
    run([*apt, "install", "--download-only", "--reinstall", "--no-install-recommends", package], folder)
    for archive in (folder / "cache/archives").glob("*.deb"):
        run(["dpkg", "-x", str(archive), str(folder / "tree")], folder)


def options(folder: Path) -> Iterable[str]:
    """Return the options that have apt work in a folder of our own; it only downloads: no lock is needed."""
    settings = (
        f"Dir::State={folder}/state",
        "Dir::State::status=/var/lib/dpkg/status",
        f"Dir::Cache={folder}/cache",
        "APT::Sandbox::User=root",
        "Debug::NoLocking=1",
    )
    return (word for setting in settings for word in ("-o", setting))
