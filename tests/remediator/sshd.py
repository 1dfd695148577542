"""A real sshd on a loopback port, run by somebody who is not root, for one user with one forced command.

sshd wants an account to log in to, and as root also one for itself. Neither is made: libnss_wrapper tells it
of the one user there is, whom nobody else sees.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from remediator.provisioning.cloudinit import RESTART, authorized
from sandbox.process.binaries import unpacked
from sandbox.process.processes import Process, free_port

NOBODY = 65534
CONFIG = """\
ListenAddress {host}:{port}
HostKey {home}/host_key
AuthorizedKeysFile {home}/authorized_keys
PidFile none
Subsystem sftp internal-sftp
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""


@dataclass
class Sshd:
    """`home` holds `key` and `key.pub` of the client, `host_key.pub`, and what the forced command leaves."""

    home: Path
    host: str
    port: int
    process: Process

    @property
    def key(self) -> Path:
        return self.home / "key"

    @property
    def public_key(self) -> str:
        return (self.home / "key.pub").read_text().strip()

    def known_as(self, name: str) -> str:
        """Return its line of known_hosts."""
        return f"{name} {' '.join((self.home / 'host_key.pub').read_text().split()[:2])}\n"


async def run(argv: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True)


@asynccontextmanager
async def run_sshd(command: str, host: str = "127.0.0.1") -> AsyncIterator[Sshd]:
    """`command`: a shell script, in place of `bot-restart`. BinaryError where there is no sshd to be had."""
    tree = unpacked("openssh-server", "libwrap0", "libnss-wrapper")
    user = os.getuid() or NOBODY
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder:
        home = Path(folder)  # pytest's own are closed to other users
        home.chmod(0o755)
        shutil.copy(tree / "usr/sbin/sshd", home)
        for library in [*tree.rglob("libwrap.so.0"), *tree.rglob("libnss_wrapper.so")]:
            shutil.copy(library, home)
        for key in ("key", "host_key"):
            argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key, "-f", str(home / key)]
            await run(argv)
        script = home / RESTART
        script.write_text(f"#!/bin/sh\ncd {home}\n{command}\n")
        script.chmod(0o755)
        line = authorized((home / "key.pub").read_text().strip())
        forced = line.replace(f"sudo -n /usr/local/sbin/{RESTART}", str(script))
        assert forced != line
        (home / "authorized_keys").write_text(forced + "\n")
        (home / "passwd").write_text(f"{RESTART}:x:{user}:{user}::{home}:/bin/sh\n")
        (home / "group").write_text(f"{RESTART}:x:{user}:\n")
        port = free_port()
        (home / "sshd_config").write_text(CONFIG.format(host=host, port=port, home=home))
        drop: list[str] = []
        if os.getuid() == 0:
            drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            for path in (home, home / "host_key"):
                os.chown(path, user, user)

        async def listens(process: Process) -> bool:
            return "Server listening on" in process.log.read_text()

        process = Process(
            [*drop, home / "sshd", "-D", "-e", "-f", home / "sshd_config"],
            log=home / "log",
            env={
                "LD_LIBRARY_PATH": str(home),
                "LD_PRELOAD": str(home / "libnss_wrapper.so"),
                "NSS_WRAPPER_PASSWD": str(home / "passwd"),
                "NSS_WRAPPER_GROUP": str(home / "group"),
            },
            ready=listens,
        )
        async with process:
            yield Sshd(home, host, port, process)
