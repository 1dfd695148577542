"""The calls about deployments: begin one, a redeploy, and how far each is."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import metrics
from remediator.api import views
from remediator.api.body import read_body
from remediator.api.lookup import actor_of, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import DeployRequest, RedeployRequest
from remediator.api.sse import watch
from remediator.configuration.rendering import warnings
from remediator.engine.journal import Failed
from remediator.errors import Refused
from remediator.metrics import Samples, Series
from remediator.model import Run, Step
from remediator.provisioning import blue_green
from remediator.provisioning import deploy as deployment
from remediator.provisioning.idle import free_bot
from remediator.provisioning.progress import expected_seconds, progress
from remediator.store.transaction import Transaction


async def deployment_view(
    tx: Transaction, run: Run, steps: list[Step] | None = None, expected: Mapping[str, float] | None = None
) -> views.DeploymentView:
    """Return a deployment as it is now. `expected`: seconds of each step of such runs, if known already."""
    steps = await tx.steps(run.id) if steps is None else steps
    expected = await expected_seconds(tx, run.kind) if expected is None else expected
    plan = next((step.request for step in steps if step.name == "plan"), {})
    bot = await tx.bot(run.bot)
    config: Mapping[str, Any] = plan["becomes"]["config"] if plan else bot.config if bot is not None else {}
    warned = warnings(config) if config else []
    return views.deployment(run, steps, progress(run, steps, expected, tx.now), now=tx.now, warnings=warned)


async def under_way(
    tx: Transaction, kinds: Collection[str] = metrics.DEPLOYMENT_KINDS
) -> list[tuple[Run, int]]:
    """Return the deployments of these kinds that are under way and how far each is, in percent.

    Two statements for all of them, and one for each kind of run.
    """
    runs = [run for run in await tx.active_runs() if run.kind in kinds]
    steps = await tx.steps_under_way()
    expected = {kind: await expected_seconds(tx, kind) for kind in {run.kind for run in runs}}
    return [(run, progress(run, steps.get(run.id, []), expected[run.kind], tx.now).percent) for run in runs]


async def samples(tx: Transaction) -> Mapping[Series, Samples]:
    """Return how far each deployment under way is, for a scrape."""
    progressed = [((run.bot, run.kind), percent / 100) for run, percent in await under_way(tx)]
    return {metrics.DEPLOYMENT_PROGRESS: progressed}


async def deploy(request: Request) -> Response:
    """Deploy a new bot. Answers at once; the deployment goes on and can be watched."""
    runtime, body = runtime_of(request), await read_body(request, DeployRequest)
    async with runtime.store.write() as tx:
        run, bot = await deployment.begin(
            tx,
            body.spec(),
            actor_of(request),
            templates=runtime.templates,
            settings=runtime.settings,
        )
    outcome = await deployment.start(
        run, body.telegram_token, store=runtime.store, aws=runtime.aws, engine=runtime.engine
    )
    if isinstance(outcome, Failed):
        raise Refused(
            "unavailable",
            f"the token could not be stored: {outcome.reason}",
            field="telegramToken",
            remedy="see to it that this service may call ssm:PutParameter, then send the deploy again",
        )
    answer = {
        **views.deployment(run),
        "botType": body.bot_type,
        "environment": body.environment,
        "warnings": warnings(bot.config),
    }
    return JSONResponse(answer, 202, headers={"Location": run.path})


async def show_deployment(request: Request) -> Response:
    """Return its status, every step with its times, and when it will be done. `?watch=true` streams them."""
    runtime, run_id = runtime_of(request), request.path_params["deployment_id"]

    async def read_view() -> views.DeploymentView:
        async with runtime.store.read() as tx:
            run = await tx.run(run_id)
            if run is None or run.kind == "recover":
                raise not_found("deploymentId", run_id, "GET /dashboard lists the recent ones")
            return await deployment_view(tx, run)

    view = await read_view()
    if request.query_params.get("watch") == "true":
        return watch(read_view, runtime.engine.is_leaving)
    return JSONResponse(view)


async def redeploy(request: Request) -> Response:
    """Launch a new instance beside the old one; once it is proved, the bot moves to it, or it stays."""
    runtime, name = runtime_of(request), request.path_params["bot"]
    body = await read_body(request, RedeployRequest)
    actor = actor_of(request, body.by)
    async with runtime.store.write() as tx:
        bot = await free_bot(tx, name, actor)
        run = await blue_green.begin(
            runtime.settings, tx, bot, version=body.version, actor=actor, reason=body.reason
        )
        view = await deployment_view(tx, run)
    runtime.engine.drive(run)
    return JSONResponse(view, 202, headers={"Location": run.path})


OPERATIONS: Final = (
    Operation(
        "POST",
        "/deploy",
        deploy,
        {
            202: ("The deployment has begun.", views.DeploymentView),
            409: ("There is a bot of that name.", ANY),
            502: ("AWS refused the token's parameter.", ANY),
        },
        body=DeployRequest,
    ),
    Operation(
        "GET",
        "/deploy/{deployment_id}",
        show_deployment,
        {200: ("The deployment.", views.DeploymentView), 404: ("Unknown deployment.", ANY)},
        query={"watch": "true: server-sent events `step`, `progress` and `end`, each with the whole view."},
    ),
    Operation(
        "POST",
        "/bots/{bot}/redeploy",
        redeploy,
        {
            202: ("The redeploy has begun.", views.DeploymentView),
            404: ("Unknown bot.", ANY),
            409: ("Another run is at work on the bot.", ANY),
        },
        body=RedeployRequest,
    ),
)
