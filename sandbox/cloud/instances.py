"""EC2's semantics that moto lacks: an instance takes time to boot and to stop, has states, and a client token
names one; a snapshot is pending for a while.

An instance that is told to stop is `stopping` for the cloud's boot time, and its bot lives until it is
`stopped`. Started again it is `pending`, with the id and the addresses it had, and its bot has a new boot_id.

`install` puts them into moto itself, which constructs, describes and serializes everything.
"""

from __future__ import annotations

import base64
import copy
import re
import threading
from typing import Any

import moto.ec2.models.elastic_block_store as moto_volumes
import moto.ec2.models.instances as moto_instances
import moto.ec2.utils as moto_utils
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.models.instances import Instance, InstanceState
from werkzeug import Response

from remediator.aws.user_data import unpack
from sandbox.cloud.machines import Machines
from sandbox.cloud.protocol import AwsError, Call, Forward

PENDING, RUNNING, STOPPING, STOPPED = ("pending", 0), ("running", 16), ("stopping", 64), ("stopped", 80)


def install(machines: Machines) -> None:
    """Make moto's instances boot machines of ours, and let DescribeInstances filter by client token."""
    vars(moto_instances)["Instance"] = instance_class(machines)  # the name that run_instances looks up
    vars(moto_volumes)["Snapshot"] = snapshot_class(machines.boot_seconds)
    moto_utils.filter_dict_attribute_mapping["client-token"] = "client_token"


def find_instance(region: str, instance_id: str) -> Instance | None:
    """Return moto's instance; None if there never was one."""
    return ec2_backends[DEFAULT_ACCOUNT_ID][region].get_instance_by_id(instance_id)


def instance_class(machines: Machines) -> type[Instance]:
    """Make moto's instance class boot these machines."""

    class BootingInstance(Instance):
        """moto's instance on a real machine. Errors are those of EC2."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            content = base64.b64decode(str(self.user_data or ""))
            self.machine = machines.create(self.id, unpack(content))
            self._power_on("run")

        def start(self) -> InstanceState:
            if not self._must_be("started", STOPPED, no_op=(PENDING, RUNNING)):
                return copy.copy(self._state)
            previous: InstanceState = super().start()
            self.launch_time = utcnow()  # EC2 counts it from the last start
            self._power_on("start")
            return previous

        def stop(self) -> InstanceState:
            if not self._must_be("stopped", RUNNING, no_op=(STOPPING, STOPPED)):
                return copy.copy(self._state)
            self._effect("stop")
            previous = copy.copy(self._state)
            self._state = InstanceState(*STOPPING)
            timer = threading.Timer(machines.boot_seconds, self._stopped)
            timer.daemon = True
            timer.start()
            return previous

        def _stopped(self) -> None:
            if self.state == "stopping":  # it may have been terminated meanwhile
                self.machine.halt()
                super().stop()
                self.show_address()

        def reboot(self) -> None:
            self._must_be("rebooted", RUNNING)
            self._effect("reboot")
            self.machine.halt()
            self.machine.power_on("reboot")

        def terminate(self) -> InstanceState:
            if self.state == "terminated":
                return copy.copy(self._state)
            self._effect("terminate")
            self.machine.halt()
            for address in self.ec2_backend.addresses:
                if address.instance is self:
                    self.ec2_backend.disassociate_address(association_id=address.association_id)
            previous: InstanceState = super().terminate()
            return previous

        def show_address(self) -> None:
            """Publish its public address: the Elastic IP, else its own, and none while it is off."""
            addresses = self.ec2_backend.addresses
            elastic = [address.public_ip for address in addresses if address.instance is self]
            own = self.machine.address if self.state in ("pending", "running", "stopping") else None
            self.nics[0].public_ip = elastic[0] if elastic else own

        def _power_on(self, action: str) -> None:
            nic = self.nics[0]
            nic.private_ip_address = self.machine.address
            nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": self.machine.address}]
            self._state = InstanceState(*PENDING)
            self.show_address()
            self._effect(action)
            self.machine.power_on("redeploy" if action == "run" else "reboot", self._booted)

        def _booted(self) -> None:
            self._state = InstanceState(*RUNNING)

        def _effect(self, action: str) -> None:
            machines.effects.add(action, self.id, self.machine.bot)

        def _must_be(
            self, verb: str, state: tuple[str, int], no_op: tuple[tuple[str, int], ...] = ()
        ) -> bool:
            """Return False where EC2 answers a repeated call as if it had done it; raise where it refuses."""
            if self.state in [name for name, _ in no_op]:
                return False
            if self.state != state[0]:
                raise EC2ClientError(
                    "IncorrectInstanceState",
                    f"This instance '{self.id}' is not in a state from which it can be {verb}.",
                )
            return True

    return BootingInstance


def snapshot_class(seconds: float) -> type[Snapshot]:
    """Make snapshots that are pending for so many seconds."""

    class PendingSnapshot(Snapshot):
        """Pending for some seconds, as a real one is for minutes; its id is known at once."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.status = "pending"
            timer = threading.Timer(seconds, self._complete)
            timer.daemon = True
            timer.start()

        def _complete(self) -> None:
            self.status = "completed"

    return PendingSnapshot


class ClientTokens:
    """The client tokens of RunInstances: one that was used before runs nothing, and the answer is the first.

    docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[dict[str, Any], bytes, list[str]]] = {}
        self._lock = threading.Lock()

    def run_instances(self, call: Call, forward: Forward) -> Response:
        """Answer RunInstances."""
        request = dict(call.params)
        token = request.pop("ClientToken", None)
        if token is None:
            return forward(call)
        with self._lock:
            key = (call.region, token)
            if key in self._answers:
                return self._replay(call.region, request, *self._answers[key])
            response = forward(call)
            if response.status_code == 200:
                ids = re.findall(r"<instanceId>(i-\w+)</instanceId>", response.get_data(as_text=True))
                self._answers[key] = request, response.get_data(), ids
            return response

    def _replay(
        self, region: str, request: dict[str, Any], first: dict[str, Any], answer: bytes, ids: list[str]
    ) -> Response:
        if request != first:
            raise AwsError(
                "IdempotentParameterMismatch",
                "Arguments on this idempotent request are inconsistent with arguments used in previous"
                " request(s).",
            )
        instances = [find_instance(region, instance_id) for instance_id in ids]
        if all(instance is None or instance.state == "terminated" for instance in instances):
            raise AwsError(
                "IdempotentInstanceTerminated",
                "The instances launched with this client token have been terminated.",
            )
        return Response(answer, content_type="text/xml")
