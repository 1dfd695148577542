"""The machines of a world and the bots on them, with their faults and how long they take to come up."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, Literal

from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.timestamps import DAY

Kind = Literal["die", "hang", "slow", "error", "deaf", "mute", "stuck"]
CuredBy = Literal["restart", "reboot", "redeploy", "nothing"]

CURES: Final = {
    "restart": ("restart",),
    "reboot": ("restart", "reboot"),
    "redeploy": ("restart", "reboot", "redeploy"),
}
PORT: Final = 18790
WORKS: Final = Work({"telegram": True}, 0.0, 5.0, {"other": 0.0})
DOES_NOT_WORK: Final = {
    "deaf": replace(WORKS, channels={"telegram": False}),
    "mute": replace(WORKS, succeeded=0.0, failed={"other": 3.0}),
    "stuck": replace(WORKS, turn_age=DAY),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a bot."""

    kind: Kind
    cured_by: CuredBy
    machine: str  # that has it; one that nothing cures follows the bot to new machines


@dataclass
class Machine:
    """An instance. Times are seconds of the virtual clock."""

    id: str
    bot: str
    host: str
    zone: str
    config_sha: str
    tags: dict[str, str]
    visible_from: float  # DescribeInstances is eventually consistent
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
    provider_down: bool = False  # of all bots' models, and not one that says why

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
            visible_from=now if at_once else now + self.random.choice((0, 0, 0, 1.0)),
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
        live = self.live(bot)
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

    def observe(self, address: str) -> Observation:
        """Return what a probe of that address sees now."""
        machine = self.hosts.get(address.rpartition(":")[0])
        if machine is None or machine.terminated or machine.stopped or self.time() < machine.up_at:
            return Observation(False, "/health: connect_refused")
        fault = self._fault(machine)
        if fault is None or fault.kind in DOES_NOT_WORK:
            own = fault.kind if fault is not None else "mute" if self.provider_down else ""
            boot = machine.boot_id, machine.started_at, machine.config_sha
            return Observation(True, "/health ok", *boot, DOES_NOT_WORK.get(own, WORKS))
        if fault.kind == "error":
            return Observation(False, "/health: http_status 500", machine.boot_id, machine.started_at)
        return Observation(
            False, "/health: connect_refused" if fault.kind == "die" else "/health: read_timeout"
        )

    def symptom(self, address: str) -> str:
        """Return what is wrong with the bot there: down, deaf, mute or stuck; "" where it works."""
        observation = self.observe(address)
        if not observation.healthy:
            return "down"
        return next((name for name, work in DOES_NOT_WORK.items() if observation.work == work), "")

    def is_silent(self, address: str) -> bool:
        """Return whether a probe of that address gets no answer until it gives up."""
        machine = self.hosts.get(address.rpartition(":")[0])
        fault = self._fault(machine) if machine is not None else None
        return fault is not None and fault.kind in ("hang", "slow")

    def live(self, bot: str) -> list[Machine]:
        """Return the bot's machines that are not terminated, oldest first."""
        machines = self.machines.values()
        return [machine for machine in machines if machine.bot == bot and not machine.terminated]
