"""The calls about one bot: adopt it, retire it, end its quarantine, and have its story told."""

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator.api.body import read_body
from remediator.api.deployments import deployment_view
from remediator.api.explain import explain as explain_bot
from remediator.api.lookup import actor_of, answered, runtime_of
from remediator.api.operation import ANY, TEXT, Operation
from remediator.api.requests import AdoptRequest
from remediator.api.views import DeploymentView
from remediator.configuration.rendering import files_of
from remediator.errors import Refused
from remediator.model import Run
from remediator.provisioning import adopt as adoption
from remediator.provisioning import retire as retirement
from remediator.provisioning.adoption_check import AdoptionCheck, name_taken, require_unclaimed
from remediator.provisioning.deploy import start
from remediator.provisioning.idle import bot_named, free_bot
from remediator.runtime import Runtime
from remediator.store.errors import ConflictError

ADOPTION_WAIT: Final = 20.0  # seconds for which the answer waits for the adoption


async def adopt(request: Request) -> Response:
    """Make a bot of an instance that runs a healthy one: tagged as ours, in the registry, not changed."""
    runtime, body = runtime_of(request), await read_body(request, AdoptRequest)
    store, aws = runtime.store, runtime.aws
    check = AdoptionCheck(store, aws, runtime.prober, runtime.settings, runtime.templates)
    bot, facts, instance = await answered(check.check(body.spec()))
    await answered(runtime.files.keep(files_of(bot.config)), "botType")
    try:
        async with store.write() as tx:
            await require_unclaimed(tx, body.spec(), instance)
            run = await adoption.begin(tx, bot, facts, actor_of(request, body.by))
    except ConflictError:
        raise name_taken(body.bot_name) from None
    await start(run, body.telegram_token, store=store, aws=aws, engine=runtime.engine)
    await runtime.engine.wait(run.id, ADOPTION_WAIT)
    return await _adopted(runtime, run, body)


async def _adopted(runtime: Runtime, run: Run, body: AdoptRequest) -> Response:
    """Return the answer: the bot as it is now; Refused (unavailable) where the adoption has failed."""
    async with runtime.store.read() as tx:
        run, bot = await tx.run(run.id) or run, await tx.bot(run.bot)
        view = await deployment_view(tx, run)
    if run.status == "failed":
        remedy = f"GET /deploy/{run.id} shows each step"
        raise Refused("unavailable", run.reason, field="instanceId", remedy=remedy)
    warnings = list(view["warnings"])
    if body.telegram_token is None and not await answered(runtime.aws.has_token(run.bot, 0)):
        warnings.append("no Telegram token is kept for it: a redeploy would come up without one")
    address = bot.address if bot else ""
    answer = {**view, "instanceId": body.instance_id, "address": address, "warnings": warnings}
    status = 201 if run.finished_at is not None else 202
    return JSONResponse(answer, status, headers={"Location": run.path})


async def retire(request: Request) -> Response:
    """Stop the bot, keep a snapshot of its disk where asked, and give back all that it had."""
    runtime, name = runtime_of(request), request.path_params["bot"]
    snapshot = request.query_params.get("snapshot", "false")
    if snapshot not in ("true", "false"):
        raise Refused("invalid", f"is {snapshot!r}", field="snapshot", remedy="use true or false")
    actor = actor_of(request, request.query_params.get("by", ""))
    async with runtime.store.write() as tx:
        bot = await free_bot(tx, name, actor)
        run = await retirement.begin(tx, bot, snapshot=snapshot == "true", actor=actor)
        view = await deployment_view(tx, run)
    runtime.engine.drive(run)
    return JSONResponse(view, 202, headers={"Location": run.path})


async def clear_quarantine(request: Request) -> Response:
    """Let automatic recovery have the bot again."""
    name = request.path_params["bot"]
    async with runtime_of(request).store.write() as tx:
        bot = await bot_named(tx, name)
        if bot.quarantined_at is None:
            raise Refused("conflict", f"{name!r} is not in quarantine", field="bot")
        await tx.change_bot(name, quarantined_at=None, quarantine_reason=None, attempts_from=tx.now)
        await tx.audit("quarantine.cleared", bot=name, actor=actor_of(request), was=bot.quarantine_reason)
    return JSONResponse({"bot": name, "state": bot.state})


async def explain(request: Request) -> Response:
    """Tell in order: what came in, what each gate said, what was done and seen, and what happens next."""
    runtime, name = runtime_of(request), request.path_params["bot"]
    async with runtime.store.read() as tx:
        bot = await bot_named(tx, name)
        run = await tx.active_run(name) or await tx.last_recovery(name)
        story = explain_bot(
            bot,
            run,
            steps=await tx.steps(run.id) if run else [],
            verdicts=await tx.verdicts(run.id) if run else [],
            trail=await tx.audit_trail(bot=name, after=None, limit=200),
            approval=await tx.open_approval(run.id) if run else None,
            holds=[hold for hold in await tx.holds() if hold.covers(bot, tx.now)],
            settings=runtime.settings,
            now=tx.now,
        )
    if "json" in request.headers.get("accept", ""):
        return JSONResponse(story.view())
    return Response(story.text(), media_type="text/plain")


OPERATIONS: Final = (
    Operation(
        "POST",
        "/bots",
        adopt,
        {
            201: ("It is a bot of ours.", ANY),
            202: ("The adoption goes on.", ANY),
            409: ("The name or the instance is taken, or the instance does not run.", ANY),
            502: ("AWS refused.", ANY),
        },
        body=AdoptRequest,
    ),
    Operation(
        "DELETE",
        "/bots/{bot}",
        retire,
        {
            202: ("The retirement has begun.", DeploymentView),
            404: ("Unknown bot.", ANY),
            409: ("Another run is at work on the bot.", ANY),
        },
        query={
            "snapshot": "true: keep a snapshot of its disk (false).",
            "by": "Who asks, for the audit trail.",
        },
    ),
    Operation(
        "DELETE",
        "/bots/{bot}/quarantine",
        clear_quarantine,
        {
            200: ("It is recovered automatically again.", ANY),
            404: ("Unknown bot.", ANY),
            409: ("It is not in quarantine.", ANY),
        },
    ),
    Operation(
        "GET",
        "/bots/{bot}/explain",
        explain,
        {200: ("The bot's story (JSON where it is asked for).", TEXT), 404: ("Unknown bot.", ANY)},
    ),
)
