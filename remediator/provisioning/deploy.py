"""A new bot: its token in SSM, its instance up and healthy, itself in the registry. Or nothing at all.

The API and the autoscaler `begin` a deployment and then `start` it; the engine runs `Deployment.run`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.configuration.rendering import merge_patch, rendered
from remediator.configuration.versions import record
from remediator.cost.budget_check import check_budgets
from remediator.engine.engine import Engine
from remediator.engine.journal import Done, Failed, Journal, Outcome
from remediator.errors import Refused
from remediator.model import Bot, Ended, Run
from remediator.provisioning.cutover import Cutover
from remediator.provisioning.launch_request import require_launchable
from remediator.provisioning.launcher import Launcher
from remediator.settings import Settings
from remediator.store.lease import Lease, LeaseLostError
from remediator.store.store import Store
from remediator.store.transaction import Transaction
from templates import BotTemplate, Templates

STORED: Final = "in SSM Parameter Store, as a SecureString"
NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


@dataclass(frozen=True, slots=True)
class DeploySpec:
    """A bot to be deployed. ValueError where its name or its token cannot be one."""

    bot: str
    template: str
    environment: str
    token: SecretStr
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        valid_bot_name(self.bot)
        valid_token(self.token)


def valid_bot_name(name: str) -> str:
    """Return the name. ValueError where no bot may have it: it is a label, a tag and part of a path."""
    if not name or len(name) > 63 or name.startswith("-") or not set(name) <= NAME_CHARACTERS:
        raise ValueError("must have 1 to 63 of a-z, 0-9 and -, and not begin with -")
    return name


def valid_token(token: SecretStr) -> SecretStr:
    """Return the Telegram token. ValueError where it is none."""
    text = token.get_secret_value()
    if not 1 <= len(text) <= 256 or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be 1 to 256 printable ASCII characters without spaces, as BotFather gave it")
    return token


def template_named(templates: Templates, name: str, environment: str) -> BotTemplate:
    """Return the template of a bot type; raise Refused (invalid) where there is none."""
    try:
        return templates.get(name, environment)
    except KeyError:
        remedy = f"use one of {', '.join(templates.names)}"
        raise Refused("invalid", f"{name!r} is no bot type", field="botType", remedy=remedy) from None


async def begin(
    tx: Transaction, spec: DeploySpec, actor: str, *, templates: Templates, settings: Settings
) -> tuple[Run, Bot]:
    """Write down the new bot and the run that deploys it, before anything is done in AWS.

    `start` the run once the transaction is kept. Raise Refused where the bot type or an override is wrong,
    the name is taken, its user data would be too large, or a budget would be broken.
    """
    template = template_named(templates, spec.template, spec.environment)
    run = Run.begin("deploy", bot=spec.bot, reason="under way", at=tx.now)
    if await tx.bot(spec.bot) is not None:
        raise Refused(
            "conflict",
            f"a bot {spec.bot!r} exists already",
            field="botName",
            remedy="choose another name, or POST /recover/{botId} with method redeploy to renew it",
        )
    overrides = merge_patch({}, spec.overrides)
    config, config_sha = rendered(spec.bot, spec.environment, template, overrides)
    require_launchable(spec.bot, config, config_sha, settings)
    await check_budgets(tx, config, settings.aws_region)
    await tx.audit("deploy.asked", bot=spec.bot, run_id=run.id, actor=actor, template=template.name)
    version = await record(
        tx,
        spec.bot,
        config,
        config_sha,
        actor=actor,
        reason=f"deployed as {template.name}",
        origin="deploy",
        overrides=overrides,
    )
    bot = Bot.registered(spec.bot, config, config_sha, overrides=overrides, version=version, at=tx.now)
    await tx.add_bot(bot)
    return await tx.add_run(run), bot


async def start(run: Run, token: SecretStr | None, *, store: Store, aws: Aws, engine: Engine) -> Outcome:
    """Store the token, where there is one, and have the run driven; return what became of the token.

    The run is driven in any case: where its token is missing, it takes back what was reserved.
    """
    try:
        if token is None:
            return Done()
        return await store_token(Journal(store, run, store.lease(run)), aws, token)
    except LeaseLostError:
        return Done()  # it took so long that another replica has the run, and says what is missing
    finally:
        engine.drive(run)


async def store_token(journal: Journal, aws: Aws, token: SecretStr | None = None) -> Outcome:
    """Put the bot's Telegram token into SSM Parameter Store: the step "token" of a run.

    The request that brings the token has to do this itself, before the run is driven: the secret may not be
    on disk, so nobody else could. What drives the run has no token to give, and gets the step's outcome;
    where the process died in between, `has_token` settles whether the token has reached SSM since the run
    began.
    """

    async def put_or_settle(request: Mapping[str, Any]) -> Outcome:
        if token is not None:  # to put it again is harmless
            await aws.put_token(journal.run.bot, token.get_secret_value())
            return Done({}, STORED)
        if await aws.has_token(journal.run.bot, request["since"]):
            return Done({}, STORED)
        return Failed("the Telegram token did not reach SSM before a crash; send the request again")

    return await journal.step("token", put_or_settle, request={"since": journal.run.created_at})


@dataclass(frozen=True, slots=True)
class Deployment:
    """Drives one deployment; goes on where it was after a crash."""

    store: Store
    aws: Aws
    launcher: Launcher
    cutover: Cutover

    async def run(self, run: Run, bot: Bot, lease: Lease, _wake: asyncio.Event) -> Ended:
        """Drive the run to its end. One that fails takes back all that it made."""
        journal = Journal(self.store, run, lease)
        outcome = await self._deploy(journal, bot)
        if isinstance(outcome, Done):
            return Ended("deployed", outcome.detail)
        cleaned = await self.launcher.clean_up(journal, outcome.reason)
        if "address" in await journal.steps():
            await self.cutover.release(journal, bot)
        left = await self.cutover.token_left(journal, bot)
        return Ended("failed", f"{outcome.reason}; {cleaned}{left}")

    async def _deploy(self, journal: Journal, bot: Bot) -> Outcome:
        token = await store_token(journal, self.aws)
        if isinstance(token, Failed):
            return token
        instance = await self.launcher.bring_up(journal, bot, "candidate")
        if isinstance(instance, Failed):
            return instance
        address = await self.cutover.address(journal, bot)
        if isinstance(address, Failed):
            return address
        return await self.cutover.move(journal, bot, instance.result, address.result, name="registered")
