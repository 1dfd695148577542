"""The HTTP calls. Each reads a request, asks the store or the engine, and answers with a view."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from remediator import alerts, deployments, metrics, rolling, views
from remediator.backups import Backups
from remediator.changes import Changes, rendered
from remediator.configuration import patched, warnings
from remediator.controls import Controls
from remediator.costs import Costs, check_budgets
from remediator.dashboard import dashboard
from remediator.deployments import Deployments
from remediator.errors import RequestError
from remediator.groups import Groups
from remediator.handlers import actor_of, free_bot, unknown
from remediator.inspector import seen
from remediator.intake import take_in
from remediator.journal import Done, Failed, Journal, Outcome
from remediator.lease import LeaseLostError
from remediator.lifecycle import Lifecycle
from remediator.model import Bot, Run
from remediator.reconcile import Reconciling
from remediator.requests import (
    ALERTS_LIMIT,
    DeployRequest,
    RecoverRequest,
    read_body,
    read_json,
    read_number,
)
from remediator.rolling import Rolling
from remediator.services import VERSION
from remediator.transaction import Transaction
from remediator.versions import record
from templates import BotTemplate

LONGEST_WAIT = 600  # seconds


@dataclass(frozen=True, slots=True)
class Api(Backups, Changes, Controls, Costs, Deployments, Groups, Lifecycle, Reconciling, Rolling):
    """With what people can say to the machine, and the versions of a bot's configuration; see there."""

    async def health(self, _: Request) -> Response:
        """Status, version, and how many bots and deployments there are."""
        async with self.services.store.read() as tx:
            bots, active = await tx.bots(), await tx.active_runs()
        return JSONResponse(
            {
                "status": "healthy",
                "version": VERSION,
                "timestamp": views.iso(self.services.store.clock()),
                "managed_bots": sum(bot.state == "active" for bot in bots),
                "active_deployments": sum(run.kind != "recover" for run in active),
            }
        )

    async def dashboard(self, _: Request) -> Response:
        """The fleet, its health over 24 hours, what is being done, what is firing."""
        return JSONResponse(await dashboard(self.services))

    async def deploy(self, request: Request) -> Response:
        """Deploy a new bot. Answers at once; the deployment goes on and can be watched."""
        asked = await read_body(request, DeployRequest)
        run, config = await self.begin_deploy(asked, actor_of(request))
        return JSONResponse(
            {
                **views.deployment(run),
                "botType": asked.bot_type,
                "environment": asked.environment,
                "warnings": warnings(config),
            },
            202,
            headers={"Location": run.path},
        )

    async def begin_deploy(self, asked: DeployRequest, actor: str) -> tuple[Run, Mapping[str, Any]]:
        """The run, under way, and the bot's configuration. RequestError where it may not be."""
        async with self.services.store.write() as tx:
            run, config = await self.reserve(tx, asked, actor)
        await self.set_out(run, asked)
        return run, config

    async def set_out(self, run: Run, asked: DeployRequest) -> None:
        """The token is kept, and the run under way."""
        services, token = self.services, asked.telegram_token.get_secret_value()

        async def store_token(_: Mapping[str, Any]) -> Outcome:
            await services.aws.put_token(run.bot, token)
            return Done({}, "in SSM Parameter Store, as a SecureString")

        stored: Outcome = Done()
        try:
            stored = await Journal(services.store, run, services.store.lease(run)).step(
                "token", store_token, request={"since": run.created_at}
            )
        except LeaseLostError:
            pass  # it took so long that another replica has the deployment
        finally:
            services.engine.drive(run)  # where there is no token, it takes back what was reserved
        if isinstance(stored, Failed):
            raise RequestError(
                502,
                f"the token could not be stored: {stored.why}",
                field="telegramToken",
                remedy="see to it that this service may call ssm:PutParameter, then send the deploy again",
            )

    def _template(self, asked: DeployRequest) -> BotTemplate:
        try:
            return self.services.templates.get(asked.bot_type, asked.environment)
        except KeyError:
            known = ", ".join(self.services.templates.names)
            raise RequestError(
                422, f"{asked.bot_type!r} is no bot type", field="botType", remedy=f"use one of {known}"
            ) from None

    async def reserve(
        self, tx: Transaction, asked: DeployRequest, actor: str
    ) -> tuple[Run, Mapping[str, Any]]:
        """The name, and the run: on disk before anything is done in AWS. With the bot's configuration.

        `set_out` follows the transaction's commit.
        """
        template, run_id = self._template(asked), "dep-" + secrets.token_hex(8)
        if await tx.bot(asked.bot_name) is not None:
            raise RequestError(
                409,
                f"a bot {asked.bot_name!r} exists already",
                field="botName",
                remedy="choose another name, or POST /recover/{botId} with method redeploy to renew it",
            )
        overrides = patched({}, asked.overrides)
        config, config_sha = rendered(asked.bot_name, asked.environment, template, overrides)
        await check_budgets(self.services, tx, config)
        await tx.audit("deploy.asked", bot=asked.bot_name, run_id=run_id, actor=actor, template=template.name)
        version = await record(
            tx,
            asked.bot_name,
            config,
            config_sha,
            actor=actor,
            reason=f"deployed as {template.name}",
            origin="deploy",
            overrides=overrides,
        )
        await tx.add_bot(
            Bot(
                name=asked.bot_name,
                template=template.name,
                environment=asked.environment,
                state="deploying",
                address="",
                health_path=config["probe"]["health_path"],
                mesh_path=config["probe"]["mesh_path"],
                instance_id="",
                config=config,
                config_sha=config_sha,
                boot_id=None,
                started_at=None,
                zone="",
                quarantined_at=None,
                quarantine_reason=None,
                attempts_from=0,
                created_at=tx.now,
                updated_at=tx.now,
                overrides=overrides,
                version=version,
            )
        )
        run = Run(run_id, "deploy", asked.bot_name, "manual", "", "running", "under way", "", tx.now, None)
        return await tx.add_run(run), config

    async def recover(self, request: Request) -> Response:
        """Recover a bot, beginning with the tier asked for. `?wait=SECONDS` answers when it has ended."""
        name = request.path_params["id"]
        patience = read_number(request, "wait", 0, LONGEST_WAIT)
        asked = await read_body(request, RecoverRequest)
        try:
            async with self.services.store.write() as tx:
                run = await self._manual_run(tx, name, asked)
                await tx.audit(
                    "recover.asked", bot=name, run_id=run.id, actor=actor_of(request), method=asked.method
                )
        except IntegrityError:
            raise RequestError(409, f"a run of {name!r} has just begun", field="botId") from None
        self.services.engine.drive(run)
        if patience:
            await self.services.engine.wait(run.id, patience)
        view = await self._recovery(run.id)
        ended = view["finishedAt"] is not None
        return JSONResponse(view, 200 if ended else 202, headers={"Location": run.path})

    async def _manual_run(self, tx: Transaction, name: str, asked: RecoverRequest) -> Run:
        await free_bot(tx, name, "botId")
        run_id, reason = "rec-" + secrets.token_hex(8), f"{asked.method} was asked for"
        run = Run(run_id, "recover", name, "manual", asked.method, "running", reason, "", tx.now, None)
        return await tx.add_run(run)

    async def show_recovery(self, request: Request) -> Response:
        """A recovery: its attempts, and every gate's verdict."""
        return JSONResponse(await self._recovery(request.path_params["id"]))

    async def _recovery(self, run_id: str) -> views.RecoveryView:
        async with self.services.store.read() as tx:
            run = await tx.run(run_id)
            if run is None or run.kind != "recover":
                raise unknown("recoveryId", run_id, "GET /dashboard lists the recent ones")
            return views.recovery(
                run, await tx.steps(run_id), await tx.verdicts(run_id), await tx.alerts_of(run_id)
            )

    async def alerts(self, request: Request) -> Response:
        """Alertmanager's webhook, version 4. A 2xx means that the alerts are on disk."""
        webhook = alerts.parse(await read_json(request, ALERTS_LIMIT))
        services = self.services
        taken = await take_in(services.store, webhook, services.metrics, services.settings.relapse_after)
        for run in taken.started:
            services.engine.drive(run)
        for run_id in sorted(taken.concerned):  # in an order that a simulation can repeat
            services.engine.wake(run_id)
        recoveries = sorted({run.id for run in taken.started} | taken.concerned)
        return JSONResponse({"accepted": len(webhook.alerts), "recoveries": recoveries})

    async def audit(self, request: Request) -> Response:
        """The audit trail, oldest first; without `after`, the newest entries."""
        limit = int(read_number(request, "limit", 100, 1000))
        after = int(read_number(request, "after", 0, 2**53)) if "after" in request.query_params else None
        async with self.services.store.read() as tx:
            entries = await tx.audit_trail(bot=request.query_params.get("bot"), after=after, limit=limit)
        return JSONResponse([views.audit(entry) for entry in entries])

    async def service_discovery(self, _: Request) -> Response:
        """The registry in Prometheus's http_sd format."""
        async with self.services.store.read() as tx:
            return JSONResponse(views.service_discovery(await tx.bots()))

    async def metrics(self, _: Request) -> Response:
        """The remediator's own series."""
        async with self.services.store.read() as tx:
            under_way = [*await deployments.families(tx), *await rolling.families(tx)]
            state = _State(await tx.bots(), await tx.active_runs(), await seen(tx), under_way)
        body = generate_latest(self.services.metrics.registry) + generate_latest(state)
        return Response(body, media_type=CONTENT_TYPE_LATEST)

    async def healthy(self, _: Request) -> Response:
        """200 while the process serves."""
        return PlainTextResponse("healthy\n")

    async def ready(self, _: Request) -> Response:
        """200 once the store is migrated and unfinished runs were taken up."""
        return PlainTextResponse("ready\n")


@dataclass(frozen=True, slots=True)
class _State(Collector):
    """What is so at the moment of a scrape, made from the store."""

    bots: list[Bot]
    active: list[Run]
    drift: Mapping[str, Any]
    under_way: list[Metric]

    def collect(self) -> Any:
        yield from self.under_way
        active = [(run.bot, run.kind, run.tier) for run in self.active]
        blocked = [(run.bot, run.reason.partition(":")[0]) for run in self.active if run.status == "blocked"]
        yield metrics.family(metrics.ACTIVE, active)
        yield metrics.family(metrics.BLOCKED, blocked)
        versions = metrics.family(metrics.CONFIG_VERSION, [])
        for bot in self.bots:
            versions.add_metric([bot.name], bot.version)
        yield versions
        differing = [
            (bot.name, one["field"]) for bot in self.bots for one in self.drift["bots"].get(bot.name, [])
        ]
        yield metrics.family(metrics.DRIFT, differing)
        looked = metrics.family(metrics.DRIFT_LOOKED, [])
        if self.drift["at"] is not None:
            looked.add_metric([], self.drift["at"])
        yield looked
        launched = metrics.family(metrics.LAUNCHED, [])
        for bot in self.bots:
            if bot.name in self.drift["launched"]:
                launched.add_metric([bot.name], self.drift["launched"][bot.name])
        yield launched
        quarantined = [(bot.name,) for bot in self.bots if bot.quarantined_at is not None]
        yield metrics.family(metrics.QUARANTINED, quarantined)
        managed = metrics.family(metrics.MANAGED, [])
        managed.add_metric([], sum(bot.state == "active" for bot in self.bots))
        yield managed
