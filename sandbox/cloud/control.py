"""The sandbox's own endpoints, under `/_sandbox/`: the bots, their faults, and the actions on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import werkzeug
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from werkzeug import Response

from exporter.result import FAILURE_KINDS
from sandbox.cloud.faults import API_FAULT_KINDS, CURES, KINDS, MUTE_REASON, SLOW_SECONDS, Fault
from sandbox.cloud.machines import Machine, Machines
from sandbox.cloud.protocol import ApiFault, ApiFaults

PREFIX = "/_sandbox/"


class RefusedError(Exception):
    """A request that makes no sense: its message names the field and the fault."""


class Control:
    """The WSGI application of these endpoints."""

    def __init__(self, machines: Machines, api_faults: ApiFaults) -> None:
        self._machines = machines
        self._api_faults = api_faults
        self._routes = {
            ("GET", "bots"): self.bots,
            ("GET", "effects"): self.effects,
            ("POST", "fault"): self.fault,
            ("POST", "heal"): self.heal,
            ("POST", "break"): self.break_api,
            ("POST", "forget"): self.forget,
            ("POST", "pair"): self.pair,
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        http_request = werkzeug.Request(environ)
        route = self._routes.get((http_request.method, http_request.path.removeprefix(PREFIX)))
        status = 200
        try:
            if route is None:
                raise RefusedError(f"no {http_request.method} {http_request.path} here")
            payload = route(json.loads(http_request.get_data() or b"{}"))
        except (RefusedError, ValueError) as error:
            status, payload = 400, {"error": str(error)}
        return Response(json.dumps(payload), status, content_type="application/json")(environ, start_response)

    def bots(self, _: Mapping[str, Any]) -> Any:
        states = {
            instance.id: instance.state
            for backend in ec2_backends[DEFAULT_ACCOUNT_ID].values()
            for instance in backend.all_instances()
        }
        return [
            describe(machine, states[machine.instance_id])
            for machine in self._machines.all()
            if machine.bot and states.get(machine.instance_id, "terminated") != "terminated"
        ]

    def effects(self, request: Mapping[str, Any]) -> Any:
        bot = request.get("bot")
        return [effect for effect in self._machines.effects.all() if bot in (None, effect["bot"])]

    def forget(self, _: Mapping[str, Any]) -> Any:
        """Forget terminated instances; EC2 takes about an hour until then."""
        forgotten = 0
        for backend in ec2_backends[DEFAULT_ACCOUNT_ID].values():
            for id_, reservation in list(backend.reservations.items()):
                if all(instance.state == "terminated" for instance in reservation.instances):
                    del backend.reservations[id_]
                    forgotten += len(reservation.instances)
        return {"instances": forgotten}

    def fault(self, request: Mapping[str, Any]) -> Any:
        fault = Fault(
            choice_of(request, "kind", KINDS),
            choice_of(request, "cured_by", CURES, "restart"),
            float(request.get("seconds", SLOW_SECONDS)),
            choice_of(request, "reason", FAILURE_KINDS, MUTE_REASON),
        )
        bot = str(request.get("bot", ""))
        count = self._machines.inflict(bot, fault)
        if not count:
            raise RefusedError(f"bot: no running instance of a bot named {bot!r}")
        return {"instances": count}

    def pair(self, request: Mapping[str, Any]) -> Any:
        """Let somebody write to a bot that does not know them."""
        bot = str(request.get("bot", ""))
        for machine in self._machines.all():
            if machine.bot == bot and machine.online:
                return {"code": machine.ask_to_pair(int(request["sender"]), str(request.get("name", "")))}
        raise RefusedError(f"bot: no running instance of a bot named {bot!r}")

    def heal(self, request: Mapping[str, Any]) -> Any:
        return {"instances": self._machines.heal(request.get("bot"))}

    def break_api(self, request: Mapping[str, Any]) -> Any:
        fault = ApiFault(
            how=choice_of(request, "how", API_FAULT_KINDS),
            code=str(request.get("code", "InternalError")),
            message=str(request.get("message", "")),
            seconds=float(request.get("seconds", 0)),
            times=int(request.get("times", 1)),
        )
        self._api_faults.add(str(request["action"]), fault)
        return {}


def choice_of(request: Mapping[str, Any], field: str, allowed: tuple[Any, ...], default: str = "") -> Any:
    value = request.get(field, default)
    if value not in allowed:
        raise RefusedError(f"{field}: {value!r} is none of {', '.join(allowed)}")
    return value


def describe(machine: Machine, state: str) -> dict[str, Any]:
    return {
        "bot": machine.bot,
        "instance_id": machine.instance_id,
        "address": f"{machine.address}:{machine.port}",
        "state": state,
        "pid": machine.process.pid if machine.process else None,
        "boot_id": machine.boot_id,
        "fault": machine.fault.kind if machine.fault else None,
    }
