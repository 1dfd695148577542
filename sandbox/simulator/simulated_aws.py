"""EC2 and SSM over the model, with production's interface and the faults of the real ones."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal, Protocol, TypeVar

from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.aws.client import BeforeEffect
from remediator.aws.elastic_ips import Address
from remediator.aws.errors import AwsError
from remediator.aws.instances import Instance
from remediator.aws.ssm_commands import Command
from remediator.aws.tags import BOT_TAG, CONFIG_SHA_TAG, MANAGED_TAG
from sandbox.simulator.virtual_clock import EPOCH
from sandbox.simulator.world import Machine, World

T = TypeVar("T")
How = Literal["throttled", "denied", "capacity", "lost answer", "lost request", "delay"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What AWS suffers from for a while, in that share of the calls."""

    how: How
    begins: float
    ends: float
    share: float


@dataclass
class Sent:
    """A restart in SSM. It is in the list only a moment after it was sent."""

    id: str
    machine: str
    idempotency_key: str
    listed_at: float
    ends_at: float
    status: str


@dataclass
class Region:
    """AWS's own state, shared by all replicas."""

    world: World
    random: Random
    troubles: list[Trouble] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # ClientToken → instance
    sent: dict[str, Sent] = field(default_factory=dict)
    parameters: dict[str, float] = field(default_factory=dict)
    pooled: int = 0  # tokens that people put aside for each template

    def trouble(self) -> How | None:
        """Draw what happens to a call that is made now; None: nothing."""
        now = self.world.time()
        for trouble in self.troubles:
            if trouble.begins <= now < trouble.ends and self.random.random() < trouble.share:
                return trouble.how
        return None


class Caller(Protocol):
    """The replica that calls."""

    async def reach(self) -> None: ...
    def before_request(self) -> None: ...
    def after_read(self, subject: str) -> None: ...
    def before_effect(self, operation: str) -> None: ...
    def effect(self, operation: str, run_id: str, machine: str) -> None: ...
    def after_effect(self, operation: str) -> None: ...


READS: Final = (
    "GetParameter", "DescribeInstances", "DescribeAddresses", "ListCommands", "GetCommandInvocation",
)  # fmt: skip


class SimulatedAws(Aws):
    """AWS as one replica reaches it."""

    def __init__(self, region: Region, caller: Caller) -> None:
        self._region, self._caller = region, caller
        self._world = region.world

    def __getattr__(self, name: str) -> Any:
        """Refuse production's own clients, which a call that is not simulated would reach for."""
        raise NotImplementedError(f"{name} of AWS is not simulated")

    async def _do(
        self,
        operation: str,
        effect: Callable[[], T],
        guard: BeforeEffect | None = None,
        *,
        hidden: bool = False,
        repeated: Callable[[], bool] = lambda: False,
    ) -> T:
        """Make a request: it is on its way, carried out, and its answer on the way back.

        `repeated`: whether it was carried out before, so that capacity for it is there.
        """
        region, caller, reads = self._region, self._caller, operation in READS
        await caller.reach()
        how = region.trouble()
        await asyncio.sleep(region.random.uniform(0.01, 0.2))
        if not reads:
            caller.before_request()
        await caller.reach()
        if how == "throttled" or (reads and how in ("lost answer", "lost request")):
            raise AwsError("unavailable", operation, "RequestLimitExceeded", "slow down")
        if how == "denied" and not reads:
            raise AwsError("denied", operation, "UnauthorizedOperation", "not allowed")
        if how == "capacity" and operation == "RunInstances" and not repeated():
            raise AwsError("capacity", operation, "InsufficientInstanceCapacity", "none left in this zone")
        if guard is not None:
            guard()
        if hidden or reads:
            return effect()
        caller.before_effect(operation)
        if how == "lost request":
            raise AwsError("in_doubt", operation, "", "the connection was lost")
        answer = await self._land(effect, region.random.uniform(0.5, 2.5)) if how == "delay" else effect()
        caller.after_effect(operation)
        await asyncio.sleep(region.random.uniform(0.01, 0.1))
        await caller.reach()
        if how == "lost answer":
            raise AwsError("in_doubt", operation, "", "the answer was lost")
        return answer

    async def _land(self, effect: Callable[[], T], seconds: float) -> T:
        """Let the request arrive after that time, whatever becomes of the sender."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[T] = loop.create_future()

        def arrive() -> None:
            try:
                answer = effect()
            except AwsError as error:
                if not landed.done():
                    landed.set_exception(error)
                return
            if not landed.done():
                landed.set_result(answer)

        loop.call_later(seconds, arrive)
        return await landed

    def _machine(self, operation: str, instance_id: str) -> Machine:
        machine = self._world.machines.get(instance_id)
        if not instance_id or machine is None or machine.terminated:
            raise AwsError("gone", operation, "", f"instance {instance_id or '(none)'} is not there")
        return machine

    # launching

    async def image_id(self, ami: str) -> str:
        return await self._do("GetParameter", lambda: "ami-1")

    async def run_instance(self, request: Mapping[str, Any], guard: BeforeEffect) -> str:
        region, run_id = self._region, _run_id()

        def launch() -> str:
            token = request["ClientToken"]
            if token in region.tokens:
                launched = self._world.machines[region.tokens[token]]
                if launched.terminated:
                    raise AwsError("gone", "RunInstances", "IdempotentInstanceTerminated", launched.id)
                return launched.id
            tags = {tag["Key"]: tag["Value"] for tag in request["TagSpecifications"][0]["Tags"]}
            machine = self._world.launch(
                tags[BOT_TAG],
                region.random.choice(("a", "b")),
                tags[CONFIG_SHA_TAG],
                tags,
                at_once=False,
            )
            region.tokens[token] = machine.id
            self._caller.effect("launch", run_id, machine.id)
            return machine.id

        return await self._do(
            "RunInstances", launch, guard, repeated=lambda: request["ClientToken"] in region.tokens
        )

    def _instance(self, machine: Machine) -> Instance:
        state, zone = self._world.state(machine), f"zone-{machine.zone}"
        return Instance(machine.id, state, machine.host, "", dict(machine.tags), "", zone)

    async def instances(self) -> dict[str, Instance]:
        def read() -> dict[str, Instance]:
            now = self._world.time()
            visible = [machine for machine in self._world.machines.values() if now >= machine.visible_from]
            return {machine.id: self._instance(machine) for machine in visible}

        return await self._do("DescribeInstances", read)

    async def must_be_managed(self, operation: str, instance_id: str) -> None:
        await self._do("DescribeInstances", lambda: self._machine(operation, instance_id))

    async def tag(self, instance_id: str, tags: Mapping[str, str]) -> None:
        await self._do(
            "CreateTags",
            lambda: self._machine("CreateTags", instance_id).tags.update(tags),
            hidden=True,
        )

    async def terminate(self, instance_id: str, guard: BeforeEffect) -> None:
        run_id = _run_id()

        def end() -> None:
            self._machine("TerminateInstances", instance_id).terminated = True
            self._caller.effect("terminate", run_id, instance_id)

        try:
            await self.must_be_managed("TerminateInstances", instance_id)
            await self._do("TerminateInstances", end, guard)
        except AwsError as error:
            if error.kind != "gone":
                raise

    async def stop(self, instance_id: str, guard: BeforeEffect) -> None:
        run_id = _run_id()

        def stop() -> None:
            self._machine("StopInstances", instance_id).stopped = True
            self._caller.effect("stop", run_id, instance_id)

        await self.must_be_managed("StopInstances", instance_id)
        await self._do("StopInstances", stop, guard)

    async def addresses(self) -> list[Address]:
        return await self._do("DescribeAddresses", list[Address])

    # recovering

    async def reboot(self, instance_id: str, guard: BeforeEffect) -> None:
        run_id = _run_id()

        def reboot() -> None:
            machine = self._machine("RebootInstances", instance_id)
            self._caller.effect("reboot", run_id, instance_id)
            begins = self._region.random.choice((0.1, 0.5, 3.0))
            asyncio.get_running_loop().call_later(begins, self._world.reboot, machine)

        await self.must_be_managed("RebootInstances", instance_id)
        await self._do("RebootInstances", reboot, guard)

    async def send_restart(
        self, instance_id: str, idempotency_key: str, patience: float, guard: BeforeEffect
    ) -> str:
        run_id = _run_id()

        def send() -> str:
            machine, now = self._machine("SendCommand", instance_id), self._world.time()
            sent = Sent(
                id=f"c-{len(self._region.sent) + 1}",
                machine=machine.id,
                idempotency_key=idempotency_key,
                listed_at=now + self._region.random.choice((0, 0, 0.5, 2.0)),
                ends_at=now + self._region.random.uniform(0.2, 5),
                status="Failed" if self._region.random.random() < 0.05 else "Success",
            )
            self._region.sent[sent.id] = sent
            self._caller.effect("restart", run_id, instance_id)
            if sent.status == "Success":
                asyncio.get_running_loop().call_later(0.1, self._world.restart, machine)
            return sent.id

        await self.must_be_managed("SendCommand", instance_id)
        return await self._do("SendCommand", send, guard)

    async def find_restart(self, instance_id: str, idempotency_key: str) -> str | None:
        def find() -> str | None:
            now = self._world.time()
            for sent in self._region.sent.values():
                ours = sent.machine == instance_id and sent.idempotency_key == idempotency_key
                if ours and now >= sent.listed_at:
                    return sent.id
            return None

        return await self._do("ListCommands", find)

    async def command(self, instance_id: str, command_id: str) -> Command:
        def read() -> Command:
            sent = self._region.sent[command_id]
            over = self._world.time() >= sent.ends_at
            return Command(sent.id, sent.status if over else "InProgress", 0 if over else -1)

        return await self._do("GetCommandInvocation", read)

    async def give_token(self, bot: str, instance_id: str) -> None:
        await self._do("PutParameter", lambda: None, hidden=True)

    # secrets

    async def put_token(self, bot: str, token: str) -> None:
        await self._do("PutParameter", lambda: self._region.parameters.update({bot: self._world.time()}))

    async def has_token(self, bot: str, since: float) -> bool:
        put = self._region.parameters
        return await self._do("GetParameter", lambda: bot in put and EPOCH + put[bot] >= since - 1)

    async def pooled_token(self, template: str, number: int) -> SecretStr | None:
        token = SecretStr(f"{number}:{template}") if 1 <= number <= self._region.pooled else None
        answer = await self._do("GetParameter", lambda: token)
        self._caller.after_read("token")
        await self._caller.reach()
        return answer

    async def delete_token(self, bot: str) -> None:
        await self._do("DeleteParameter", lambda: self._region.parameters.pop(bot, None))

    # files: content-addressed, so that nothing can come of them

    async def put_files(self, sha256: str, archive: bytes) -> None: ...

    async def files(self, sha256: str) -> bytes | None:
        return b""


def managed(bot: str, config_sha: str) -> dict[str, str]:
    """Return the tags of an instance that was there before the world began."""
    return {MANAGED_TAG: "true", BOT_TAG: bot, CONFIG_SHA_TAG: config_sha}


def _run_id() -> str:
    """Return the id of the run that acts: its task is named so."""
    task = asyncio.current_task()
    return task.get_name() if task is not None else ""
