"""The HTTP calls about deployments: what is under way, and a redeploy."""

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import bluegreen, views
from remediator.handlers import Handlers, actor_of, unknown
from remediator.operation import ANY, Operation
from remediator.requests import RedeployRequest, read_body


@dataclass(frozen=True, slots=True)
class Deployments(Handlers):
    async def show_deployment(self, request: Request) -> Response:
        """A deployment's status, and every step with its times."""
        run_id = request.path_params["deployment_id"]
        async with self.services.store.read() as tx:
            run = await tx.run(run_id)
            steps = await tx.steps(run_id)
        if run is None or run.kind == "recover":
            raise unknown("deploymentId", run_id, "GET /dashboard lists the recent ones")
        return JSONResponse(views.deployment(run, steps))

    async def redeploy(self, request: Request) -> Response:
        """A new instance beside the old one; the bot moves to it once it is proved, or stays where it is."""
        name = request.path_params["bot"]
        asked = await read_body(request, RedeployRequest)
        async with self.services.store.write() as tx:
            bot = await tx.bot(name)
            if bot is None:
                raise unknown("bot", name, "GET /sd lists the bots")
            run = await bluegreen.begin(
                self.services,
                tx,
                bot,
                version=asked.version,
                actor=asked.by or actor_of(request),
                reason=asked.reason,
            )
            steps = await tx.steps(run.id)
        self.services.engine.drive(run)
        return JSONResponse(views.deployment(run, steps), 202, headers={"Location": f"/deploy/{run.id}"})


OPERATIONS: Final = (
    Operation(
        "GET",
        "/deploy/{deployment_id}",
        "show_deployment",
        {200: ("The deployment.", views.DeploymentView), 404: ("Unknown deployment.", ANY)},
    ),
    Operation(
        "POST",
        "/bots/{bot}/redeploy",
        "redeploy",
        {
            202: ("The redeploy has begun.", views.DeploymentView),
            404: ("Unknown bot.", ANY),
            409: ("The bot is in the hands of another run.", ANY),
        },
        body=RedeployRequest,
    ),
)
