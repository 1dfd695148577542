"""Elastic IPs that really reach a bot, with the semantics of EC2 that moto lacks.

An Elastic IP is a loopback address (127.x.y.z), as an instance's own is. While it is associated, the cloud's
process listens on it, at the port of the instance's bot, and carries every connection to the instance:

- `AllocateAddress` gives `PublicIp` and `AllocationId`; until it is associated, nobody listens there.
- `AssociateAddress(AllocationId, InstanceId)` has it reach that instance once it is answered, and makes it
  the instance's `PublicIpAddress`. It moves by itself from another instance, unless `AllowReassociation` is
  false; whatever connections it carried are cut. A pending or terminated instance is refused.
- A stopped instance keeps its id, its private address and its Elastic IP; connections are reset meanwhile.
- A terminated instance loses it: the address stays allocated, and costs.
- `DisassociateAddress(AssociationId)` gives the instance its own address back as public one.
- `ReleaseAddress(AllocationId)` is refused while it is associated (`InvalidIPAddress.InUse`).
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any

import moto.ec2.models.elastic_ip_addresses as moto_addresses
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from werkzeug import Response

from sandbox.cloud.instances import find_instance
from sandbox.cloud.machines import Machine, free_address
from sandbox.cloud.protocol import AwsError, Call, Forward

BOT_PORT = 18790
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


class LoopbackAddress(ElasticAddress):
    """moto's address, where it can be listened on."""

    def __init__(self, ec2_backend: Any, domain: str, address: str | None = None, tags: Any = None) -> None:
        super().__init__(ec2_backend, domain, address or free_address(BOT_PORT), tags)


class ElasticIPs:
    """The actions on addresses, and the forwarders that carry the connections."""

    def __init__(self) -> None:
        vars(moto_addresses)["ElasticAddress"] = LoopbackAddress  # the name that allocate_address looks up
        self._forwarders: dict[str, Forwarder] = {}
        self._lock = threading.Lock()

    def associate(self, call: Call, forward: Forward) -> Response:
        """Answer AssociateAddress."""
        instance = find_instance(call.region, str(call.params.get("InstanceId", "")))
        with self._lock:
            if instance is not None and instance.state in ("pending", "terminated"):
                what = f"The {instance.state} instance '{instance.id}'"
                raise AwsError("InvalidInstanceID", f"{what} is not in a valid state for this operation.")
            movable = call.params.get("AllowReassociation", "true") != "false"
            for address in associated(call.region):
                is_named = address.allocation_id == call.params.get("AllocationId")
                if (is_named and movable) or (not is_named and address.instance is instance):
                    address.ec2_backend.disassociate_address(association_id=address.association_id)
            return self._forward_and_route(call, forward)

    def release(self, call: Call, forward: Forward) -> Response:
        """Answer ReleaseAddress."""
        with self._lock:
            for address in associated(call.region):
                if address.allocation_id == call.params.get("AllocationId"):
                    raise AwsError("InvalidIPAddress.InUse", f"Address {address.public_ip} is in use.")
            return forward(call)

    def forward_and_route(self, call: Call, forward: Forward) -> Response:
        """Forward a call after which an address may reach another instance, or none."""
        with self._lock:
            return self._forward_and_route(call, forward)

    def _forward_and_route(self, call: Call, forward: Forward) -> Response:
        response = forward(call)
        for instance in ec2_backends[DEFAULT_ACCOUNT_ID][call.region].all_instances():
            instance.show_address()  # type: ignore[attr-defined]  # ours: see sandbox.cloud.instances
        routes: dict[str, Machine] = {
            address.public_ip: address.instance.machine
            for region in ec2_backends[DEFAULT_ACCOUNT_ID]
            for address in associated(region)
        }
        for public, forwarder in list(self._forwarders.items()):
            if forwarder.machine is not routes.get(public):
                forwarder.close()
                del self._forwarders[public]
        for public, machine in routes.items():
            if public not in self._forwarders:
                self._forwarders[public] = Forwarder(public, machine)
        return response


def associated(region: str) -> list[Any]:
    """Return the addresses of a region that belong to an instance."""
    addresses: list[Any] = list(ec2_backends[DEFAULT_ACCOUNT_ID][region].addresses)
    return [address for address in addresses if address.instance is not None]


class Forwarder:
    """Listens on an address and carries each connection to a machine, until it is closed."""

    def __init__(self, address: str, machine: Machine) -> None:
        self.machine = machine
        self._target = (machine.address, machine.port or BOT_PORT)
        self._listener = socket.create_server((address, machine.port or BOT_PORT), backlog=128)
        self._connections: set[socket.socket] = set()
        self._closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True, name=f"elastic {address}").start()

    def close(self) -> None:
        """Stop listening and cut every connection; both is done when this returns."""
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        try:
            bot = socket.create_connection(self._target)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        with client, bot:
            with self._lock:
                if self._closed:
                    return
                self._connections |= {client, bot}
            back = threading.Thread(target=_pump, args=(bot, client), daemon=True)
            back.start()
            _pump(client, bot)
            back.join()
            with self._lock:
                self._connections -= {client, bot}


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
