"""The sandbox's own endpoints, under `/_sandbox/`: the bots, what makes them ill, what was done to them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import werkzeug
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from werkzeug import Response

from sandbox.faults import CURES, HOWS, KINDS, SLOW_SECONDS, Fault
from sandbox.machines import Machine, Machines
from sandbox.protocol import ApiFault, ApiFaults

PREFIX = "/_sandbox/"


class RefusedError(Exception):
    """A request we do not understand: its message says which field, and why."""


class Control:
    """A WSGI application."""

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
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = werkzeug.Request(environ)
        route = self._routes.get((request.method, request.path.removeprefix(PREFIX)))
        status = 200
        try:
            if route is None:
                raise RefusedError(f"no {request.method} {request.path} here")
            payload = route(json.loads(request.get_data() or b"{}"))
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

    def effects(self, wish: Mapping[str, Any]) -> Any:
        bot = wish.get("bot")
        return [effect for effect in self._machines.effects.all() if bot in (None, effect["bot"])]

    def forget(self, _: Mapping[str, Any]) -> Any:
        """What is terminated is shown no more; EC2 takes about an hour until then."""
        forgotten = 0
        for backend in ec2_backends[DEFAULT_ACCOUNT_ID].values():
            for id_, reservation in list(backend.reservations.items()):
                if all(instance.state == "terminated" for instance in reservation.instances):
                    del backend.reservations[id_]
                    forgotten += len(reservation.instances)
        return {"instances": forgotten}

    def fault(self, wish: Mapping[str, Any]) -> Any:
        fault = Fault(
            one_of(wish, "kind", KINDS),
            one_of(wish, "cured_by", CURES, "restart"),
            float(wish.get("seconds", SLOW_SECONDS)),
        )
        bot = str(wish.get("bot", ""))
        count = self._machines.inflict(bot, fault)
        if not count:
            raise RefusedError(f"bot: no running instance of a bot named {bot!r}")
        return {"instances": count}

    def heal(self, wish: Mapping[str, Any]) -> Any:
        return {"instances": self._machines.heal(wish.get("bot"))}

    def break_api(self, wish: Mapping[str, Any]) -> Any:
        fault = ApiFault(
            how=one_of(wish, "how", HOWS),
            code=str(wish.get("code", "InternalError")),
            message=str(wish.get("message", "")),
            seconds=float(wish.get("seconds", 0)),
            times=int(wish.get("times", 1)),
        )
        self._api_faults.add(str(wish["action"]), fault)
        return {}


def one_of(wish: Mapping[str, Any], field: str, allowed: tuple[Any, ...], default: str = "") -> Any:
    value = wish.get(field, default)
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
