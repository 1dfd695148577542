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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import randbelow
from typing import Any

import yaml

from sandbox.effects import Effects
from sandbox.faults import Fault, Start
from sandbox.processes import Process

BOT_PROGRAM = Path(__file__).with_name("bot.py")
UNIT_FILE = "/etc/bot/bot.json"
UNIT_START_SECONDS = 10.0
NO_SUCH_UNIT = 5  # systemctl(1): EXIT_NOTINSTALLED


class Machine:
    """One instance's machine. Its methods may be called from any thread."""

    def __init__(self, instance_id: str, home: Path, unit: dict[str, Any] | None, machines: Machines) -> None:
        """`unit` is the content of bot.json, None if the user-data holds none: it boots, and runs no bot."""
        self.instance_id = instance_id
        self.unit = unit
        self.bot: str = unit.get("bot", "") if unit else ""
        self.port = unit["port"] if unit else 0
        self.address = free_address(self.port)
        self.boot_id = ""
        self.online = False
        self.fault: Fault | None = machines.incurable.get(self.bot)
        self.process: Process | None = None
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
        """`systemctl restart bot.service`: the exit code, and what went to standard error."""
        with self._lock:
            if self.unit is None:
                return NO_SUCH_UNIT, "Failed to restart bot.service: Unit bot.service not found."
            if not self.online:
                return 1, "Failed to connect to bus: the machine is going down"
            self._machines.effects.add("restart", self.instance_id, self.bot)
            self._kill_bot()
            self._start_bot("restart")
            if self._listens():
                return 0, ""
            return 1, "Job for bot.service failed because the control process exited with error code."

    def inflict(self, fault: Fault) -> None:
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
        """No fault any more; a process that is dead or stopped is started again."""
        with self._lock:
            runs = self.process is not None and self.process.alive
            lame = not runs or (self.fault is not None and self.fault.kind == "hang")
            self.fault = None
            self._write_fault()
            if self.online and self.unit is not None and lame:
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
        draft.write_text(json.dumps({"kind": fault.kind, "seconds": fault.seconds}))
        draft.replace(path)  # the bot reads it at any moment


class Machines:
    """Every machine of a cloud, and the faults that outlive them."""

    def __init__(self, state: Path, boot_seconds: float) -> None:
        self.boot_seconds = boot_seconds
        self.effects = Effects(state / "effects.jsonl")
        self.incurable: dict[str, Fault] = {}
        self._state = state
        self._machines: dict[str, Machine] = {}
        # One thread that lives as long as the cloud starts every bot: see Process.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")

    def create(self, instance_id: str, user_data: str) -> Machine:
        """`user_data` is decoded text."""
        machine = Machine(instance_id, self._state / "machines" / instance_id, unit_in(user_data), self)
        self._machines[instance_id] = machine
        return machine

    def spawn(self, process: Process) -> None:
        self._spawner.submit(process.spawn).result()

    def get(self, instance_id: str) -> Machine | None:
        return self._machines.get(instance_id)

    def all(self) -> list[Machine]:
        return list(self._machines.values())

    def inflict(self, bot: str, fault: Fault) -> int:
        """Every machine of that bot shows the fault; how many there are."""
        ill = [machine for machine in self.all() if machine.bot == bot and machine.online]
        if ill and fault.cured_by == "nothing":
            self.incurable[bot] = fault
        for machine in ill:
            machine.inflict(fault)
        return len(ill)

    def heal(self, bot: str | None) -> int:
        """Heal one bot, or all (None); how many machines that concerned."""
        for name in [bot] if bot is not None else list(self.incurable):
            self.incurable.pop(name, None)
        concerned = [machine for machine in self.all() if machine.bot and bot in (None, machine.bot)]
        for machine in concerned:
            machine.heal()
        return len(concerned)

    def close(self) -> None:
        for machine in self.all():
            machine.halt()
        self._spawner.shutdown()


def unit_in(user_data: str) -> dict[str, Any] | None:
    """The bot.json that a cloud-config writes, with its port; None where there is none that can be read."""
    if not user_data.startswith("#cloud-config"):
        return None
    try:
        for file in yaml.safe_load(user_data)["write_files"]:
            if file["path"] == UNIT_FILE:
                content = file["content"]
                if file.get("encoding") in ("b64", "base64"):
                    content = base64.b64decode(content)
                unit = json.loads(content)
                return {**unit, "port": int(unit.get("port", 18790))}
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        return None  # cloud-init would log it, and the machine would boot without the file
    return None


def free_address(port: int) -> str:
    """A loopback address nobody listens on, at random so that many sandboxes live side by side."""
    while True:
        address = f"127.{2 + randbelow(253)}.{randbelow(256)}.{1 + randbelow(254)}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, port))
            return address
