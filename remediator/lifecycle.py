"""The HTTP calls about the life of a bot: adopt what runs already, retire it, reap what nobody claims."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from remediator import reaping, views
from remediator.caller import DEPLOYMENT_TAG, Instance
from remediator.changes import rendered
from remediator.deployments import described
from remediator.errors import RequestError
from remediator.handlers import actor_of, free_bot
from remediator.journal import Done, Journal, Outcome
from remediator.lease import LeaseLostError
from remediator.model import Bot, Run
from remediator.operation import ANY, Operation
from remediator.prober import Look
from remediator.reaping import Reaping, answered
from remediator.requests import AdoptRequest, read_body
from remediator.transaction import Transaction
from remediator.versions import record
from templates import BotTemplate

ADOPTION_WAIT: Final = 20.0  # seconds for which the answer waits for the adoption


@dataclass(frozen=True, slots=True)
class Lifecycle(Reaping):
    # adopt

    async def adopt(self, request: Request) -> Response:
        """Make a bot of an instance that runs a healthy one: tagged as ours, in the registry, not changed."""
        asked = await read_body(request, AdoptRequest)
        who = asked.by or actor_of(request)
        template = self._template_of(asked)
        config, config_sha = rendered(asked.bot_name, asked.environment, template, asked.overrides)
        async with self.services.store.read() as tx:
            await self._free(tx, asked)
        instance = await self._running(asked.instance_id)
        bot = _bot(asked, config, config_sha, self._address(asked, instance, config["probe"]["port"]))
        look = await self._healthy(bot)
        with_address = await answered(self.services.aws.address_of(instance.id))
        facts = {
            "instance_id": instance.id,
            "volumes": list(instance.volumes),
            "address": bot.address,
            "zone": instance.zone,
            "boot_id": look.boot_id,
            "started_at": look.started_at,
            "allocation_id": with_address.allocation_id if with_address is not None else "",
        }
        try:
            async with self.services.store.write() as tx:
                await self._free(tx, asked, instance)
                run = await _begin_adoption(tx, bot, facts, who)
        except IntegrityError:
            raise _exists(asked.bot_name) from None
        await self._store_token(run, asked)
        return await self._adopted(run, asked)

    def _template_of(self, asked: AdoptRequest) -> BotTemplate:
        try:
            return self.services.templates.get(asked.bot_type, asked.environment)
        except KeyError:
            known = ", ".join(self.services.templates.names)
            raise RequestError(
                422, f"{asked.bot_type!r} is no bot type", field="botType", remedy=f"use one of {known}"
            ) from None

    async def _free(self, tx: Transaction, asked: AdoptRequest, instance: Instance | None = None) -> None:
        """Neither the name nor the instance is another's."""
        if await tx.bot(asked.bot_name) is not None:
            raise _exists(asked.bot_name)
        for bot in await tx.bots():
            if asked.instance_id in (bot.instance_id, bot.standby_instance_id):
                remedy = f"DELETE /bots/{bot.name} retires that bot, or name another instance"
                raise RequestError(409, f"it is the bot {bot.name!r}'s", field="instanceId", remedy=remedy)
        deployment = instance.tags.get(DEPLOYMENT_TAG, "") if instance is not None else ""
        run = await tx.run(deployment) if deployment else None
        if run is not None and run.finished_at is None:
            remedy = f"ask again when {run.id} has ended"
            raise RequestError(409, f"{run.id} is launching it", field="instanceId", remedy=remedy)

    async def _running(self, instance_id: str) -> Instance:
        found = await answered(self.services.aws.any_instance(instance_id))
        if found is None:
            remedy = f"name an instance of {self.services.settings.aws_region}, as i-0123456789abcdef0"
            raise RequestError(422, f"there is no {instance_id!r}", field="instanceId", remedy=remedy)
        if found.state != "running":
            raise RequestError(
                409, f"{instance_id} is {found.state}", field="instanceId", remedy="start it, and ask again"
            )
        return found

    def _address(self, asked: AdoptRequest, instance: Instance, port: int) -> str:
        which = self.services.settings.address
        own = instance.public_address if which == "public" else instance.private_address
        host = asked.address or own
        if not host:
            remedy = "send the address at which the bot answers, as HOST or HOST:PORT"
            raise RequestError(422, f"it has no {which} address", field="address", remedy=remedy)
        return host if ":" in host else f"{host}:{port}"

    async def _healthy(self, bot: Bot) -> Look:
        settings = self.services.settings
        healthy, look = await self.services.prober.verify(bot.target(), settings.probe_timeout)
        if not healthy:
            remedy = "see that its bot is up and reached from here, or send another address"
            raise RequestError(
                422, f"no healthy answer at {bot.address}: {look.seen}", field="instanceId", remedy=remedy
            )
        return look

    async def _store_token(self, run: Run, asked: AdoptRequest) -> None:
        token = asked.telegram_token
        try:
            if token is not None:

                async def store_token(_: Mapping[str, Any]) -> Outcome:
                    await self.services.aws.put_token(run.bot, token.get_secret_value())
                    return Done({}, "in SSM Parameter Store, as a SecureString")

                lease = self.services.store.lease(run)
                await Journal(self.services.store, run, lease).step("token", store_token)
        except LeaseLostError:
            pass  # it took so long that another replica has the adoption
        finally:
            self.services.engine.drive(run)

    async def _adopted(self, run: Run, asked: AdoptRequest) -> Response:
        await self.services.engine.wait(run.id, ADOPTION_WAIT)
        async with self.services.store.read() as tx:
            ended, bot = await tx.run(run.id) or run, await tx.bot(run.bot)
            view = await described(tx, ended)
        if ended.status == "failed":
            raise RequestError(
                502, ended.reason, field="instanceId", remedy=f"GET /deploy/{run.id} shows each step"
            )
        said = list(view["warnings"])
        if asked.telegram_token is None and not await answered(self.services.aws.has_token(run.bot, 0)):
            said.append("no Telegram token is kept for it: a redeploy would come up without one")
        answer = {
            **view,
            "instanceId": asked.instance_id,
            "address": bot.address if bot else "",
            "warnings": said,
        }
        status = 201 if ended.finished_at is not None else 202
        return JSONResponse({**answer, "warnings": said}, status, headers={"Location": run.path})

    # retire

    async def retire(self, request: Request) -> Response:
        """Stop the bot, keep a snapshot of its disk where asked, and give back all that it had."""
        name, text = request.path_params["bot"], request.query_params.get("snapshot", "false")
        if text not in ("true", "false"):
            raise RequestError(422, f"is {text!r}", field="snapshot", remedy="use true or false")
        who = request.query_params.get("by") or actor_of(request)
        async with self.services.store.write() as tx:
            bot = await free_bot(tx, name)
            run = await begin_retirement(tx, bot, text == "true", who)
            view = await described(tx, run)
        self.services.engine.drive(run)
        return JSONResponse(view, 202, headers={"Location": run.path})


def _bot(asked: AdoptRequest, config: Mapping[str, Any], config_sha: str, address: str) -> Bot:
    return Bot(
        name=asked.bot_name,
        template=asked.bot_type,
        environment=asked.environment,
        state="deploying",
        address=address,
        health_path=config["probe"]["health_path"],
        mesh_path=config["probe"]["mesh_path"],
        instance_id=asked.instance_id,
        config=config,
        config_sha=config_sha,
        boot_id=None,
        started_at=None,
        zone="",
        quarantined_at=None,
        quarantine_reason=None,
        attempts_from=0,
        created_at=0,
        updated_at=0,
        overrides=asked.overrides,
    )


async def _begin_adoption(tx: Transaction, bot: Bot, facts: Mapping[str, Any], who: str) -> Run:
    reason = f"{facts['instance_id']} was adopted"
    version = await record(
        tx,
        bot.name,
        bot.config,
        bot.config_sha,
        actor=who,
        reason=reason,
        origin="adopt",
        overrides=bot.overrides,
    )
    await tx.add_bot(replace(bot, version=version, created_at=tx.now, updated_at=tx.now))
    run = Run(
        "ado-" + secrets.token_hex(8), "adopt", bot.name, "manual", "", "running", reason, "", tx.now, None
    )
    return await _begin(tx, run, facts, who)


async def begin_retirement(tx: Transaction, bot: Bot, snapshot: bool, who: str) -> Run:
    await tx.change_bot(bot.name, state="retiring")
    run_id, reason = (
        "ret-" + secrets.token_hex(8),
        "with a final snapshot" if snapshot else "without a snapshot",
    )
    run = Run(run_id, "retire", bot.name, "manual", "", "running", reason, "", tx.now, None)
    return await _begin(tx, run, {"instance_id": bot.instance_id, "snapshot": snapshot}, who)


async def _begin(tx: Transaction, run: Run, asked: Mapping[str, Any], who: str) -> Run:
    """With what was asked as its first step."""
    kept = await tx.add_run(run)
    await tx.intend(run.id, "asked", asked)
    await tx.change_step(run.id, "asked", state="done", detail=f"by {who}", finished_at=tx.now)
    await tx.audit(f"{run.kind}.asked", bot=run.bot, run_id=run.id, actor=who, **asked)
    return kept


def _exists(name: str) -> RequestError:
    return RequestError(
        409,
        f"a bot {name!r} exists already",
        field="botName",
        remedy="choose another name, or retire that bot",
    )


OPERATIONS: Final = (
    Operation(
        "POST",
        "/bots",
        "adopt",
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
        "retire",
        {
            202: ("The retirement has begun.", views.DeploymentView),
            404: ("Unknown bot.", ANY),
            409: ("The bot is in the hands of another run.", ANY),
        },
        query={
            "snapshot": "true: keep a snapshot of its disk (false).",
            "by": "Who asks, for the audit trail.",
        },
    ),
    *reaping.OPERATIONS,
)
