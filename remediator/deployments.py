"""The HTTP calls about deployments: how far one is, and a redeploy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import bluegreen, metrics, views
from remediator.configuration import warnings
from remediator.experience import Experience
from remediator.handlers import Handlers, actor_of, bot_named, unknown
from remediator.model import Run, Step
from remediator.operation import ANY, Operation
from remediator.progress import progress
from remediator.requests import RedeployRequest, read_body
from remediator.stream import watch
from remediator.transaction import Transaction


async def described(
    tx: Transaction, run: Run, steps: list[Step] | None = None, expected: Mapping[str, float] | None = None
) -> views.DeploymentView:
    """`expected`: what such runs take, where that is known already."""
    steps = await tx.steps(run.id) if steps is None else steps
    expected = await Experience(tx).of(run.kind) if expected is None else expected
    plan = next((step.request for step in steps if step.name == "plan"), {})
    if "soak" in plan:
        expected = {**expected, "soaked": plan["soak"]}
    bot = await tx.bot(run.bot)
    config: Mapping[str, Any] = plan["becomes"]["config"] if plan else bot.config if bot is not None else {}
    warned = warnings(config) if config else []
    return views.deployment(run, steps, progress(run, steps, expected, tx.now), now=tx.now, warnings=warned)


async def families(tx: Transaction) -> list[Metric]:
    """How far what is under way is, as it is at a scrape."""
    under_way = GaugeMetricFamily(
        metrics.DEPLOYMENT_PROGRESS.name,
        metrics.DEPLOYMENT_PROGRESS.help,
        labels=metrics.DEPLOYMENT_PROGRESS.labels,
    )
    for run in await tx.active_runs():
        if run.kind != "recover":
            under_way.add_metric([run.bot, run.kind], (await described(tx, run))["percent"] / 100)
    return [under_way]


@dataclass(frozen=True, slots=True)
class Deployments(Handlers):
    async def show_deployment(self, request: Request) -> Response:
        """Its status, every step with its times, and when it will be done. `?watch=true` streams them."""
        run_id = request.path_params["deployment_id"]

        async def look() -> views.DeploymentView:
            async with self.services.store.read() as tx:
                run = await tx.run(run_id)
                if run is None or run.kind == "recover":
                    raise unknown("deploymentId", run_id, "GET /dashboard lists the recent ones")
                return await described(tx, run)

        view = await look()
        if request.query_params.get("watch") == "true":
            return watch(look, self.services.engine.is_leaving)
        return JSONResponse(view)

    async def redeploy(self, request: Request) -> Response:
        """A new instance beside the old one; the bot moves to it once it is proved, or stays where it is."""
        name = request.path_params["bot"]
        asked = await read_body(request, RedeployRequest)
        who = asked.by or actor_of(request)
        async with self.services.store.write() as tx:
            bot = await bot_named(tx, name)
            run = await bluegreen.begin(
                self.services, tx, bot, version=asked.version, actor=who, reason=asked.reason
            )
            view = await described(tx, run)
        self.services.engine.drive(run)
        return JSONResponse(view, 202, headers={"Location": run.path})


OPERATIONS: Final = (
    Operation(
        "GET",
        "/deploy/{deployment_id}",
        "show_deployment",
        {200: ("The deployment.", views.DeploymentView), 404: ("Unknown deployment.", ANY)},
        query={"watch": "true: server-sent events `step`, `progress` and `end`, each with the whole view."},
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
