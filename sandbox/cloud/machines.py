"""The machines behind the instances: an address, a boot, and the bot's process on it."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import randbelow
from typing import Any, Protocol

import yaml

from sandbox.cloud.effects import Effects
from sandbox.cloud.faults import Fault, Start
from sandbox.cloud.pairings import Pairings
from sandbox.process.processes import Process

BOT_PROGRAM = Path(__file__).with_name("bot.py")
UNIT_FILE = "/etc/bot/bot.json"
UNIT_START_SECONDS = 10.0
NO_SUCH_UNIT = 5  # systemctl(1): EXIT_NOTINSTALLED


class Machine:
    """One instance's machine. Its methods may be called from any thread."""

    def __init__(self, instance_id: str, home: Path, files: Mapping[str, str], machines: Machines) -> None:
        """Create a machine with the files of its user-data; without bot.json it boots and runs no bot."""
        self.instance_id = instance_id
        self.unit = unit = unit_in(files)
        self.bot: str = unit.get("bot", "") if unit else ""
        self.port = unit["port"] if unit else 0
        self.address = self._own_address()
        self.boot_id = ""
        self.online = False
        self.fault: Fault | None = machines.incurable.get(self.bot)
        self.process: Process | None = None
        self.pairings = Pairings(home / "pairings.json")
        self._home = home
        self._machines = machines
        self._lock = threading.RLock()
        self._power_cycle = 0
        home.mkdir(parents=True)
        if unit is not None:
            (home / "bot.json").write_text(json.dumps(unit))

    def power_on(self, start: Start, booted: Callable[[], None] = lambda: None) -> None:
        """Boot after the cloud's boot time, unless the machine is halted before."""
        with self._lock:
            cycle = self._power_cycle
        timer = threading.Timer(self._machines.boot_seconds, self._boot, (cycle, start, booted))
        timer.daemon = True
        timer.start()

    def _boot(self, cycle: int, start: Start, booted: Callable[[], None]) -> None:
        with self._lock:
            if cycle != self._power_cycle:
                return
            self.boot_id = str(uuid.uuid4())
            booted()
            self.online = True
            if self.unit is not None:
                self._start_bot(start)

    def halt(self) -> None:
        """Power off: the bot's process is gone when this returns, and a boot under way is forgotten."""
        with self._lock:
            self._power_cycle += 1
            self.online = False
            self._kill_bot()

    def systemctl_restart(self) -> tuple[int, str]:
        """Do `systemctl restart bot.service`; returns the exit code and the standard error."""
        with self._lock:
            if self.unit is None:
                return NO_SUCH_UNIT, "Failed to restart bot.service: Unit bot.service not found."
            if not self.online:
                return 1, "Failed to connect to bus: the machine is going down"
            self._machines.effects.add("restart", self.instance_id, self.bot)
            self._stop_bot()
            self._start_bot("restart")
            if self._listens():
                return 0, ""
            return 1, "Job for bot.service failed because the control process exited with error code."

    def openclaw_pairing(self, words: list[str]) -> tuple[int, str, str]:
        """Do `openclaw pairing WORDS…`; return the exit code, the standard output and the standard error."""
        with self._lock:
            if self.unit is None:
                return 1, "", "Failed to find executable /opt/bot/node/bin/node: No such file or directory"
            self._machines.effects.add("pairing", self.instance_id, self.bot)
            return self.pairings.run(words)

    def ask_to_pair(self, sender: int, name: str) -> str:
        """Let somebody write to the bot; return the code that it gives them."""
        with self._lock:
            return self.pairings.ask(sender, name)

    def inflict(self, fault: Fault) -> None:
        """Let the bot show the fault from now on."""
        with self._lock:
            self.fault = fault
            self._write_fault()
            if self.process is None:
                return
            if fault.kind == "die":
                self.process.kill9()
            elif fault.kind == "hang":
                self.process.pause()
            else:
                self.process.signal(signal.SIGCONT)  # it may have hung until now

    def heal(self) -> None:
        """End the fault; a process that is dead or stopped is started again."""
        with self._lock:
            runs = self.process is not None and self.process.alive
            needs_start = not runs or (self.fault is not None and self.fault.kind == "hang")
            self.fault = None
            self._write_fault()
            if self.online and self.unit is not None and needs_start:
                self._kill_bot()
                self._start_bot("restart")

    def _start_bot(self, start: Start) -> None:
        if self.fault is not None and not self.fault.survives(start):
            self.fault = None
        self._write_fault()
        python = (sys.executable, "-I", "-S")  # no site-packages: it starts three times as fast
        argv = [*python, str(BOT_PROGRAM), str(self._home), self.address, self.boot_id]
        self.process = Process(argv, log=self._home / "bot.log", name=f"bot {self.bot}")
        self._machines.spawn(self.process)

    def _own_address(self) -> str:
        return free_address(self.port)

    def _stop_bot(self) -> None:
        """Do what systemd does before a restart."""
        self._kill_bot()

    def _kill_bot(self) -> None:
        if self.process is not None:
            self.process.kill9()

    def _listens(self) -> bool:
        """Wait until the bot accepts connections, or has exited."""
        deadline = time.monotonic() + UNIT_START_SECONDS
        while self.process is not None and self.process.alive and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), timeout=1):
                return True
            time.sleep(0.02)
        return False

    def _write_fault(self) -> None:
        path, fault = self._home / "fault", self.fault
        if fault is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps({"kind": fault.kind, "seconds": fault.seconds, "reason": fault.reason}))
        draft.replace(path)  # the bot reads it at any moment


class Make(Protocol):
    """What makes a machine of an instance: `Machine`, or another kind of it."""

    def __call__(
        self, instance_id: str, home: Path, files: Mapping[str, str], machines: Machines
    ) -> Machine: ...


class Machines:
    """Every machine of a cloud, and the faults that outlive them."""

    def __init__(self, state: Path, boot_seconds: float, make: Make = Machine) -> None:
        self.boot_seconds = boot_seconds
        self.endpoint_url = ""  # of the cloud's API, once it listens
        self.effects = Effects(state / "effects.jsonl")
        self.incurable: dict[str, Fault] = {}
        self._state = state
        self._make = make
        self._machines: dict[str, Machine] = {}
        # One thread that lives as long as the cloud starts every bot: see Process.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")

    def create(self, instance_id: str, user_data: str) -> Machine:
        """Create the machine of an instance; `user_data` is decoded text."""
        home = self._state / "machines" / instance_id
        machine = self._make(instance_id, home, files_in(user_data), self)
        self._machines[instance_id] = machine
        return machine

    def spawn(self, process: Process) -> None:
        """Start a process from the thread that lives as long as the cloud."""
        self._spawner.submit(process.spawn).result()

    def get(self, instance_id: str) -> Machine | None:
        return self._machines.get(instance_id)

    def all(self) -> list[Machine]:
        return list(self._machines.values())

    def inflict(self, bot: str, fault: Fault) -> int:
        """Let every machine of that bot show the fault; returns how many there are."""
        ill = [machine for machine in self.all() if machine.bot == bot and machine.online]
        if ill and fault.cured_by == "nothing":
            self.incurable[bot] = fault
        for machine in ill:
            machine.inflict(fault)
        return len(ill)

    def heal(self, bot: str | None) -> int:
        """Heal one bot, or all (None); returns how many machines that concerned."""
        for name in [bot] if bot is not None else list(self.incurable):
            self.incurable.pop(name, None)
        concerned = [machine for machine in self.all() if machine.bot and bot in (None, machine.bot)]
        for machine in concerned:
            machine.heal()
        return len(concerned)

    def close(self) -> None:
        """Halt every machine."""
        for machine in self.all():
            machine.halt()
        self._spawner.shutdown()
        self.effects.close()


def files_in(user_data: str) -> dict[str, str]:
    """Return the text of each file that a cloud-config writes, by path; none where it cannot be read."""
    if not user_data.startswith("#cloud-config"):
        return {}
    try:
        return {file["path"]: _text(file) for file in yaml.safe_load(user_data)["write_files"]}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # cloud-init would log it, and the machine would boot without the files


def _text(file: Mapping[str, Any]) -> str:
    content = file["content"]
    if file.get("encoding") in ("b64", "base64"):
        content = base64.b64decode(content).decode()
    return str(content)


def unit_in(files: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the bot.json among the files, with its port; None where none can be read."""
    try:
        unit = json.loads(files[UNIT_FILE])
        return {**unit, "port": int(unit.get("port", 18790))}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def free_address(port: int) -> str:
    """Return a loopback address nobody listens on, at random so that many sandboxes live side by side."""
    while True:
        address = f"127.{2 + randbelow(253)}.{randbelow(256)}.{1 + randbelow(254)}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return address
