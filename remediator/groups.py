"""The HTTP calls about groups of bots that scale."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of, unknown
from remediator.modes import mode_of_scaling
from remediator.operation import ANY, Operation
from remediator.requests import SpokenRequest, read_body
from remediator.views import iso, maybe_iso
from templates import ENVIRONMENTS


@dataclass(frozen=True, slots=True)
class Groups(Handlers):
    async def scaling(self, _: Request) -> Response:
        """The groups that scale: a template in an environment, its limits, and what it was up to last."""
        return JSONResponse(await self._groups())

    async def approve_scaling(self, request: Request) -> Response:
        """Say yes to the move that a group has proposed; it is made at the next look, if it is still due."""
        template, environment = request.path_params["template"], request.path_params["environment"]
        spoken = await read_body(request, SpokenRequest)
        who = spoken.by or actor_of(request)
        async with self.services.store.write() as tx:
            state = await tx.scaling(template, environment)
            proposed = state.get("proposed")
            if not state:
                raise unknown("template", f"{template}/{environment}", "GET /scaling lists the groups")
            if proposed is None:
                raise RequestError(
                    409,
                    f"{template} in {environment} proposes nothing",
                    field="template",
                    remedy="GET /scaling shows what each group is up to",
                )
            state["proposed"] = {**proposed, "approved": who}
            await tx.keep_scaling(template, environment, state)
            direction = str(proposed["direction"])
            told = {"template": template, "environment": environment, "direction": direction}
            await tx.audit("scale.approved", actor=who, reason=spoken.reason, **told)
        return JSONResponse({**told, "by": who})

    async def _groups(self) -> list[dict[str, Any]]:
        rules, found = self.services.settings.modes, []
        async with self.services.store.read() as tx:
            bots = await tx.bots()
            for template in self.services.templates.names:
                for environment in ENVIRONMENTS:
                    policy = self.services.templates.get(template, environment).scaling
                    if policy is None:
                        continue
                    state = await tx.scaling(template, environment)
                    past, proposed = state.get("past", {}), state.get("proposed")
                    found.append(
                        {
                            "template": template,
                            "environment": environment,
                            **policy.model_dump(),
                            "mode": mode_of_scaling(rules, environment),
                            "bots": sum(
                                (bot.template, bot.environment) == (template, environment) for bot in bots
                            ),
                            "shortSince": maybe_iso(past.get("short_since")),
                            "calmSince": maybe_iso(past.get("calm_since")),
                            "lastMove": past.get("moved") or None,
                            "lastMoveAt": maybe_iso(past.get("moved_at")),
                            "proposed": proposed and {**proposed, "at": iso(proposed["at"])},
                            "notDone": state.get("said") or None,
                        }
                    )
        return found


OPERATIONS: Final = (
    Operation("GET", "/scaling", "scaling", {200: ("The groups.", list[dict[str, Any]])}),
    Operation(
        "POST",
        "/scaling/{template}/{environment}/approve",
        "approve_scaling",
        {
            200: ("It is made at the next look.", ANY),
            404: ("No such group.", ANY),
            409: ("It proposes nothing.", ANY),
        },
        body=SpokenRequest,
    ),
)
