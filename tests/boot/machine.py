"""An instance that boots for real: systemd, cloud-init and the bot, in a network namespace of its own.

Three processes, that end with ours: `internet.py` (and with it the network), slirp4netns (the way out), and
systemd-nspawn (the machine).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.process.processes import Process, free_port
from tests.boot import internet, root

REGION: Final = "eu-central-1"
GATEWAY, RESOLVER = "10.0.2.2", "10.0.2.3"  # slirp4netns(1)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TRUSTED: Final = "etc/ssl/certs/ca-certificates.crt"
INSTANCE_ID: Final = "i-0b007b007b007b007"
NAMES: Final = ("nodejs.org", f"ssm.{REGION}.amazonaws.com", "api.telegram.org")
COMMAND_SECONDS: Final = 120
LEADER_DEPTH: Final = 3  # PID namespaces: ours, that of nspawn, that of the machine
CGROUPS: Final = [Path("/sys/fs/cgroup", name) for name in ("unified", "systemd", "")]  # hybrid, or v2 alone


class MachineError(RuntimeError):
    """A machine did not do as it was told."""


@dataclass
class Machine:
    """`folder` holds all that is written. `user_data` is as EC2 hands it over."""

    folder: Path
    pristine: Path
    node: Path
    user_data: bytes
    parameters: Mapping[str, str]
    ports: Mapping[int, int] = field(default_factory=dict)  # in the machine → on our loopback

    def __post_init__(self) -> None:
        self.root = self.folder / "root"
        argv = [sys.executable, "-I", "-S", internet.__file__, str(self.folder), REGION]
        self.internet = Process(
            ["unshare", "--net", "--", *argv], log=self.folder / "internet.log", name="internet"
        )
        self._outward: Process | None = None
        self._nspawn: Process | None = None
        self._cgroups: list[Path] = []

    def prepare(self) -> None:
        """Make its files, and its network, in which nothing runs yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        argv = ["cp", "--archive", "--reflink=auto", str(self.pristine), str(self.root)]
        subprocess.run(argv, check=True)
        shutil.copy(self.node, self.folder / "node.tar.gz")
        root.make_certificates(self.folder, *NAMES)
        self.put(self.parameters)
        self._furnish()
        self.internet.spawn()
        self._until(lambda: '"state": "up"' in self.internet.log_text(), 20, "the stand-ins")
        api = self.folder / "slirp.sock"
        argv = ["slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback"]
        self._outward = Process(
            [*argv, "--api-socket", str(api), str(self.internet.pid), "tap0"],
            log=self.folder / "outward.log",
            name="slirp4netns",
        )
        self._outward.spawn()
        self._until(lambda: "tap0" in self._ip("route"), 20, "the way out")
        self._until(api.exists, 20, "slirp4netns's socket")
        for inside in self.ports:
            self._forward(api, inside, self.ports[inside])

    def _furnish(self) -> None:
        """Do what EC2 does for an instance beside booting it, and make our internet its own."""
        seed = self.root / "var/lib/cloud/seed/nocloud"
        seed.mkdir(parents=True)
        (seed / "user-data").write_bytes(self.user_data)
        (seed / "meta-data").write_text(f"instance-id: {INSTANCE_ID}\nlocal-hostname: bot\n")
        trusted = self.root / TRUSTED
        ours = (self.folder / "ca.pem").read_text()
        host = Path("/") / TRUSTED  # a machine's own proxy may answer for the others
        trusted.write_text((host if host.exists() else trusted).read_text() + ours)
        self._write(
            "etc/cloud/cloud.cfg.d/99_boot.cfg", "datasource_list: [NoCloud]\nnetwork: {config: disabled}\n"
        )
        self._write("etc/hosts", f"127.0.0.1 localhost bot\n{internet.INTERNET} {' '.join(NAMES)}\n")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        self._write("etc/resolv.conf", f"nameserver {RESOLVER}\n")
        self._write(
            "etc/systemd/system.conf.d/trust.conf",
            f"[Manager]\nDefaultEnvironment=NODE_EXTRA_CA_CERTS=/{TRUSTED} CURL_CA_BUNDLE=/{TRUSTED}\n",
        )
        # Node's archive is put together anew, so its hash is another; the user data stays as it is.
        digest = hashlib.sha256(self.node.read_bytes()).hexdigest()
        self._write("etc/boot-test.env", f"NODE_SHA256={digest}\n")
        self._write(
            "etc/systemd/system/bot-install.service.d/node.conf",
            "[Service]\nEnvironmentFile=/etc/boot-test.env\n",
        )

    def purge(self, package: str) -> None:
        """Take a package out of the files of a machine that is off."""
        argv = ["chroot", str(self.root), "dpkg", "--purge", "--force-depends", package]
        subprocess.run(argv, check=True, capture_output=True)

    def _write(self, path: str, text: str) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def _forward(self, api: Path, inside: int, outside: int) -> None:
        """Make a port of the machine one of our loopback."""
        arguments = {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": outside, "guest_port": inside}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(api))
            client.sendall(json.dumps({"execute": "add_hostfwd", "arguments": arguments}).encode())
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(4096).decode()
        if "error" in answer:
            raise MachineError(f"slirp4netns: {answer}")

    def power_on(self) -> None:
        """Boot it; also again, after it has rebooted."""
        if self._nspawn is None:
            self._cgroups = [
                top / f"boot-{self.internet.pid}" for top in CGROUPS if (top / "cgroup.procs").exists()
            ]
            self._nspawn = Process(self._argv(), log=self.folder / "console.log", name="systemd-nspawn")
        for group in self._cgroups:
            group.mkdir(exist_ok=True)
        self._nspawn.spawn()

    def _argv(self) -> list[str]:
        # In control groups of its own: nspawn makes others below the one that it is in, and leaves them.
        enter = [f"echo $$ >{group / 'cgroup.procs'}" for group in self._cgroups]
        # And in a PID namespace, which ends with its first process: a machine would outlive nspawn's SIGKILL.
        contain = 'exec unshare --pid --fork --kill-child --mount-proc "$@"'
        network = f"exec 9</proc/{self.internet.pid}/ns/net"
        return [
            *("sh", "-c", "; ".join([*enter, network, contain]), "sh"),
            *("env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "systemd-nspawn", "--quiet", "--boot"),
            *(f"--directory={self.root}", f"--machine=boot-{self.internet.pid}"),
            *("--register=no", "--keep-unit", "--console=pipe", "--kill-signal=SIGRTMIN+3"),
            *("--resolv-conf=off", "--timezone=off"),
            "--network-namespace-path=/proc/self/fd/9",
            "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN",  # IPAddressDeny= is a BPF program
            "--system-call-filter=bpf @keyring",
        ]

    @property
    def off(self) -> bool:
        return self._nspawn is None or not self._nspawn.alive

    @property
    def leader(self) -> int:
        """Return the machine's process 1, as we see it; raise MachineError where there is none."""
        parents = [self._nspawn.pid] if self._nspawn is not None and self._nspawn.pid else []
        while parents:
            pid = parents.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            ids = status.partition("NSpid:")[2].partition("\n")[0].split()  # from ours to the innermost
            if len(ids) == LEADER_DEPTH and ids[-1] == "1":
                return pid
            parents += [int(child) for child in children]
        raise MachineError("the machine is off")

    def outside(self, pid: int) -> int:
        """Return the machine's process with that id, as we see it; raise MachineError where there is none."""
        namespace = Path(f"/proc/{self.leader}/ns/pid").readlink()
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                ids = status.read_text().partition("NSpid:")[2].partition("\n")[0].split()
                if int(ids[-1]) == pid and (status.parent / "ns/pid").readlink() == namespace:
                    return int(ids[0])
            except OSError:
                continue  # it has ended
        raise MachineError(f"there is no process {pid} in the machine")

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a command in it as root; gives what it said. MachineError where it fails."""
        inside = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net", "--pid"]
        command = [*inside, "env", "-i", f"PATH={PATH}", *argv]
        ended = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        if check and ended.returncode:
            raise MachineError(
                f"{' '.join(argv)}: {ended.returncode}: {(ended.stderr or ended.stdout)[-1500:]}"
            )
        return ended.stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Give systemd's properties of a unit."""
        listing = self.run("systemctl", "show", unit, f"--property={','.join(properties)}")
        return dict(line.split("=", 1) for line in listing.splitlines() if "=" in line)

    def put(self, parameters: Mapping[str, str]) -> None:
        """Set the parameters in SSM; all others are gone."""
        draft = self.folder / "parameters.new"
        draft.write_text(json.dumps(parameters))
        draft.replace(self.folder / "parameters.json")

    def requests(self, service: str) -> list[dict[str, Any]]:
        """Give what was asked of a stand-in so far."""
        lines = (self.folder / "internet.log").read_text().splitlines()
        requests = [json.loads(line) for line in lines if line.startswith("{")]
        return [request for request in requests if request["service"] == service]

    def cut_off(self) -> None:
        """Take the internet away; the metadata service is on the machine's own link and stays."""
        self._ip("link", "set", "tap0", "down")
        self._ip("address", "delete", f"{internet.INTERNET}/32", "dev", "lo")

    def reconnect(self) -> None:
        self._ip("address", "add", f"{internet.INTERNET}/32", "dev", "lo")
        self._ip("link", "set", "tap0", "up")
        self._ip("route", "replace", "default", "via", GATEWAY)

    def _ip(self, *arguments: str) -> str:
        argv = ["nsenter", f"--target={self.internet.pid}", "--net", "ip", *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def _until(self, condition: Any, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise MachineError(f"not within {seconds:.0f} s: {what}; {self.internet.log_tail()}")
            time.sleep(0.05)

    def journal(self, lines: int = 60) -> str:
        """Give the end of its journal, for who reads why a test failed."""
        try:
            units = ("-u", "bot*", "-u", "cloud-*")
            return self.run("journalctl", "--no-pager", "-n", str(lines), *units, check=False)
        except (MachineError, subprocess.SubprocessError) as error:
            return str(error)

    def close(self) -> None:
        """End its processes, and with them its namespaces and mounts; remove its control groups and files."""
        for process in (self._nspawn, self._outward, self.internet):
            if process is not None:
                process.kill9()
        for group in self._cgroups:
            self._until(lambda group=group: _removed(group), 20, f"{group} empty")
        shutil.rmtree(self.folder, ignore_errors=True)


def loopback_ports(*inside: int) -> dict[int, int]:
    return {port: free_port() for port in inside}


def _removed(group: Path) -> bool:
    """Remove a control group and those below it. False while processes are still ending in one."""
    below = sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True)
    try:
        for path in (*below, group):
            path.rmdir()
    except OSError:
        return not group.exists()
    return True
