"""What is out there: machines, and the bots on them, with their faults and how long they take to come up."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from remediator.prober import Look

Kind = Literal["die", "hang", "slow", "error"]
CuredBy = Literal["restart", "reboot", "redeploy", "nothing"]

CURES: Final = {
    "restart": ("restart",),
    "reboot": ("restart", "reboot"),
    "redeploy": ("restart", "reboot", "redeploy"),
}
PORT: Final = 18790


@dataclass(frozen=True, slots=True)
class Fault:
    kind: Kind
    cured_by: CuredBy
    machine: str  # that has it; one that nothing cures follows the bot to new machines


@dataclass
class Machine:
    id: str
    bot: str
    host: str
    zone: str
    config_sha: str
    tags: dict[str, str]
    seen_from: float  # DescribeInstances is eventually consistent
    running_at: float
    up_at: float  # the bot answers from then on
    boots: int = 1
    starts: int = 1
    stopped: bool = False
    terminated: bool = False

    @property
    def boot_id(self) -> str:
        return f"{self.id}/{self.boots}"

    @property
    def started_at(self) -> str:
        return f"{self.id}/{self.boots}.{self.starts}"


@dataclass
class World:
    """Times are seconds of the virtual clock."""

    time: Callable[[], float]
    random: Random
    boot_seconds: tuple[float, float]
    start_seconds: tuple[float, float]
    machines: dict[str, Machine] = field(default_factory=dict)
    hosts: dict[str, Machine] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)

    def launch(self, bot: str, zone: str, config_sha: str, tags: dict[str, str], *, at_once: bool) -> Machine:
        number, now = len(self.machines) + 1, self.time()
        running = 0.0 if at_once else self.random.uniform(1, 8)
        machine = Machine(
            id=f"i-{number:06}",
            bot=bot,
            host=f"10.0.{number // 250}.{number % 250}",
            zone=zone,
            config_sha=config_sha,
            tags=tags,
            seen_from=now if at_once else now + self.random.choice((0, 0, 0, 1.0)),
            running_at=now + running,
            up_at=now + (0 if at_once else running + self.random.uniform(*self.boot_seconds)),
        )
        self.machines[machine.id] = self.hosts[machine.host] = machine
        return machine

    def state(self, machine: Machine) -> str:
        if machine.terminated:
            return "terminated"
        if machine.stopped:
            return "stopped"
        return "running" if self.time() >= machine.running_at else "pending"

    def break_bot(self, bot: str, kind: Kind, cured_by: CuredBy) -> None:
        live = [one for one in self.machines.values() if one.bot == bot and not one.terminated]
        if live:
            self.faults[bot] = Fault(kind, cured_by, live[0].id)

    def restart(self, machine: Machine) -> None:
        machine.starts += 1
        machine.up_at = self.time() + self.random.uniform(*self.start_seconds)
        self._cure(machine, "restart")

    def reboot(self, machine: Machine) -> None:
        machine.boots += 1
        machine.starts = 1
        machine.up_at = self.time() + self.random.uniform(*self.boot_seconds)
        self._cure(machine, "reboot")

    def _cure(self, machine: Machine, tier: str) -> None:
        fault = self.faults.get(machine.bot)
        if fault is not None and fault.machine == machine.id and fault.cured_by in CURES[tier]:
            del self.faults[machine.bot]

    def _fault(self, machine: Machine) -> Fault | None:
        fault = self.faults.get(machine.bot)
        if fault is None or (fault.machine != machine.id and fault.cured_by != "nothing"):
            return None
        return fault

    def look(self, address: str) -> Look:
        """What a probe of that address sees now."""
        machine = self.hosts.get(address.rpartition(":")[0])
        if machine is None or machine.terminated or machine.stopped or self.time() < machine.up_at:
            return Look(False, "/health: connect_refused")
        fault = self._fault(machine)
        if fault is None:
            return Look(True, "/health ok", machine.boot_id, machine.started_at, machine.config_sha)
        if fault.kind == "error":
            return Look(False, "/health: http_status 500", machine.boot_id, machine.started_at)
        return Look(False, "/health: connect_refused" if fault.kind == "die" else "/health: read_timeout")

    def is_silent(self, address: str) -> bool:
        """A probe of that address waits until its patience ends."""
        machine = self.hosts.get(address.rpartition(":")[0])
        fault = self._fault(machine) if machine is not None else None
        return fault is not None and fault.kind in ("hang", "slow")

    def live(self, bot: str) -> list[Machine]:
        return [one for one in self.machines.values() if one.bot == bot and not one.terminated]
