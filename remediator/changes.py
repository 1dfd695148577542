"""The HTTP calls about a bot's configuration: its versions, what differs, a change, the way back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.exc import IntegrityError
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from remediator import views
from remediator.bluegreen import begin
from remediator.configuration import diff, patched, readable, render, warnings
from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of, bot_named, unknown
from remediator.model import Bot, ConfigVersion, Run
from remediator.operation import ANY, Operation
from remediator.requests import ConfigRequest, RollbackRequest, read_body
from remediator.transaction import Transaction
from remediator.versions import Versions, record
from templates import BotTemplate, OverrideError


@dataclass(frozen=True, slots=True)
class Changes(Handlers):
    async def list_versions(self, request: Request) -> Response:
        """Every configuration the bot ever had, newest first: who, when, why and what changed."""
        name = request.path_params["bot"]
        async with self.services.store.read() as tx:
            bot, found = await tx.bot(name), await Versions(tx).of(name)
        if bot is None and not found:
            raise unknown("bot", name, "GET /sd lists the bots")
        live = bot.version if bot is not None else None
        return JSONResponse([_summary(one, live) for one in reversed(found)])

    async def show_version(self, request: Request) -> Response:
        """One version: the whole configuration, and what of it is the bot's own."""
        name = request.path_params["bot"]
        async with self.services.store.read() as tx:
            bot = await tx.bot(name)
            found = await _numbered(tx, name, request.path_params["version"], "version")
        return JSONResponse(
            {
                **_summary(found, bot.version if bot is not None else None),
                "config": found.config,
                "overrides": found.overrides,
                "warnings": warnings(found.config),
            }
        )

    async def show_diff(self, request: Request) -> Response:
        """What differs between two versions; as text where `Accept: text/plain` asks for it."""
        name, asked = request.path_params["bot"], request.query_params
        async with self.services.store.read() as tx:
            newest = await Versions(tx).newest(name)
            if newest is None:
                raise unknown("bot", name, "GET /sd lists the bots")
            to = await _numbered(tx, name, asked.get("to", str(newest.version)), "to")
            before = str(max(1, to.version - 1))
            from_ = await _numbered(tx, name, asked.get("from", before), "from")
        changes = diff(from_.config, to.config)
        if "text/plain" in request.headers.get("accept", ""):
            return PlainTextResponse(_text(name, from_, to, changes))
        return JSONResponse({"bot": name, "from": from_.version, "to": to.version, "diff": changes})

    async def change_config(self, request: Request) -> Response:
        """A new version from the template as it is now and the bot's overrides, these among them.

        It runs from its next redeploy on; `apply` begins that at once.
        """
        name = request.path_params["bot"]
        asked = await read_body(request, ConfigRequest)
        who = asked.by or actor_of(request)
        run: Run | None = None
        try:
            async with self.services.store.write() as tx:
                bot = await _settled(tx, name)
                newest = await Versions(tx).newest(name)
                base = newest.overrides if newest is not None else bot.overrides
                overrides = patched(base, asked.overrides)
                template = self.template(bot.template, bot.environment)
                config, config_sha = rendered(name, bot.environment, template, overrides)
                number = await record(
                    tx,
                    name,
                    config,
                    config_sha,
                    actor=who,
                    reason=asked.reason,
                    origin="change",
                    overrides=overrides,
                )
                if asked.apply and number != bot.version:
                    run = await begin(self.services, tx, bot, version=number, actor=who, reason=asked.reason)
        except IntegrityError:
            raise _overtaken(name) from None
        answer = {
            "bot": name,
            "version": number,
            "configSha": config_sha,
            "overrides": overrides,
            "live": bot.version,
            "diff": diff(bot.config, config),
            "warnings": warnings(config),
        }
        return self._under_way(answer, run)

    def template(self, name: str, environment: str) -> BotTemplate:
        """As it is now. RequestError 409 where a bot's template is gone."""
        try:
            return self.services.templates.get(name, environment)
        except KeyError:
            raise RequestError(
                409,
                f"its template {name!r} is gone",
                field="bot",
                remedy="put the file back into the folder of templates and start this service again",
            ) from None

    async def roll_back(self, request: Request) -> Response:
        """Redeploy the bot with the configuration of an earlier version, as a version of its own."""
        name = request.path_params["bot"]
        asked = await read_body(request, RollbackRequest)
        who = asked.by or actor_of(request)
        try:
            async with self.services.store.write() as tx:
                bot = await _settled(tx, name)
                to = await _earlier(tx, bot, asked.version)
                number = await record(
                    tx,
                    name,
                    to.config,
                    to.config_sha,
                    actor=who,
                    reason=f"back to version {to.version}: {asked.reason}",
                    origin="rollback",
                    overrides=to.overrides,
                )
                run = await begin(self.services, tx, bot, version=number, actor=who, reason=asked.reason)
        except IntegrityError:
            raise _overtaken(name) from None
        self.services.metrics.rollbacks.inc()
        answer = {
            "bot": name,
            "version": number,
            "rolledBackTo": to.version,
            "configSha": to.config_sha,
            "live": bot.version,
            "diff": diff(bot.config, to.config),
            "warnings": warnings(to.config),
        }
        return self._under_way(answer, run)

    def _under_way(self, answer: dict[str, Any], run: Run | None) -> Response:
        if run is None:
            return JSONResponse({**answer, "deploymentId": None}, 200)
        self.services.engine.drive(run)
        location = {"Location": run.path}
        return JSONResponse({**answer, "deploymentId": run.id, "status": run.status}, 202, headers=location)


def rendered(
    bot: str, environment: str, template: BotTemplate, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """As `render`; RequestError 422 naming the override that is wrong."""
    try:
        return render(bot, environment, template, overrides)
    except OverrideError as error:
        raise RequestError(422, error.problem, field=error.field, remedy=error.remedy) from None


async def _settled(tx: Transaction, name: str) -> Bot:
    bot = await bot_named(tx, name)
    if bot.state != "active":
        raise RequestError(
            409, f"{name!r} is {bot.state}", field="bot", remedy="ask again when it has been deployed"
        )
    return bot


async def _numbered(tx: Transaction, bot: str, text: str, field: str) -> ConfigVersion:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    found = await Versions(tx).get(bot, number)
    if found is None:
        raise unknown(field, text, f"GET /bots/{bot}/versions lists them")
    return found


async def _earlier(tx: Transaction, bot: Bot, number: int | None) -> ConfigVersion:
    """That version, or the one before what runs."""
    remedy = f"GET /bots/{bot.name}/versions lists them"
    if number is None:
        before = [one for one in await Versions(tx).of(bot.name) if one.version < bot.version]
        if not before:
            raise RequestError(
                409, f"{bot.name!r} runs its first configuration", field="version", remedy=remedy
            )
        number = before[-1].version
    found = await _numbered(tx, bot.name, str(number), "version")
    if found.config_sha == bot.config_sha:
        raise RequestError(409, f"version {number} is what it runs", field="version", remedy=remedy)
    return found


def _overtaken(bot: str) -> RequestError:
    return RequestError(409, f"another call has just changed {bot!r}", field="bot", remedy="ask again")


def _summary(one: ConfigVersion, live: int | None) -> dict[str, Any]:
    return {
        "version": one.version,
        "configSha": one.config_sha,
        "at": views.iso(one.at),
        "by": one.actor,
        "reason": one.reason,
        "origin": one.origin,
        "live": one.version == live,
        "diff": one.diff,
    }


def _text(bot: str, from_: ConfigVersion, to: ConfigVersion, changes: list[dict[str, Any]]) -> str:
    def title(one: ConfigVersion) -> str:
        return f"{bot} {one.version}, {one.origin} by {one.actor} at {views.iso(one.at)}: {one.reason}"

    head = f"--- {title(from_)}\n+++ {title(to)}\n"
    return head + (readable(changes) or "the same\n")


_OF_A_CHANGE: Final = {
    404: ("Unknown bot, or no such version.", ANY),
    409: ("The bot is in the hands of another run, or runs this already.", ANY),
}

OPERATIONS: Final = (
    Operation(
        "GET",
        "/bots/{bot}/versions",
        "list_versions",
        {200: ("Newest first.", list[dict[str, Any]]), 404: ("Unknown bot.", ANY)},
    ),
    Operation(
        "GET",
        "/bots/{bot}/versions/{version}",
        "show_version",
        {200: ("The version.", ANY), 404: ("No such version.", ANY)},
    ),
    Operation(
        "GET",
        "/bots/{bot}/diff",
        "show_diff",
        {200: ("By path (text where it is asked for).", ANY), 404: ("No such version.", ANY)},
        query={
            "from": "A version; without it, the one before `to`.",
            "to": "A version; without it, the newest.",
        },
    ),
    Operation(
        "POST",
        "/bots/{bot}/config",
        "change_config",
        {
            200: ("It is kept; nothing was begun.", ANY),
            202: ("The redeploy has begun (with `apply`).", ANY),
            **_OF_A_CHANGE,
        },
        body=ConfigRequest,
    ),
    Operation(
        "POST",
        "/bots/{bot}/rollback",
        "roll_back",
        {202: ("The redeploy has begun.", ANY), **_OF_A_CHANGE},
        body=RollbackRequest,
    ),
)
