"""The calls about a bot's configuration: its versions, what differs, a change, the way back."""

from collections.abc import Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, answered, not_found, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import ConfigRequest, RollbackRequest
from remediator.aws.errors import AwsError
from remediator.configuration.file_changes import counted
from remediator.configuration.rendering import diff, files_of, merge_patch, readable, rendered, warnings
from remediator.configuration.versions import record
from remediator.errors import Refused
from remediator.logs import log
from remediator.model import Bot, ConfigVersion, Run
from remediator.provisioning import blue_green
from remediator.provisioning.idle import bot_named, require_active, take_over
from remediator.provisioning.launch_request import require_launchable
from remediator.runtime import Runtime
from remediator.store.errors import ConflictError
from remediator.store.transaction import Transaction
from remediator.timestamps import iso
from templates import BotTemplate, Templates


async def list_versions(request: Request) -> Response:
    """Return every configuration the bot ever had, newest first: who, when, why and what changed."""
    name = request.path_params["bot"]
    async with runtime_of(request).store.read() as tx:
        bot, versions = await tx.bot(name), await tx.versions(name)
    if bot is None and not versions:
        raise not_found("bot", name, "GET /sd lists the bots")
    live = bot.version if bot is not None else None
    return JSONResponse([_summary(version, live) for version in reversed(versions)])


async def show_version(request: Request) -> Response:
    """Return one version: the whole configuration, and what of it is the bot's own."""
    name = request.path_params["bot"]
    async with runtime_of(request).store.read() as tx:
        bot = await tx.bot(name)
        version = await _numbered(tx, name, request.path_params["version"], "version")
    return JSONResponse(
        {
            **_summary(version, bot.version if bot is not None else None),
            "config": version.config,
            "overrides": version.overrides,
            "warnings": warnings(version.config),
        }
    )


async def show_diff(request: Request) -> Response:
    """Return what differs between two versions; as text where `Accept: text/plain` asks for it."""
    name, query = request.path_params["bot"], request.query_params
    async with runtime_of(request).store.read() as tx:
        newest = await tx.version(name)
        if newest is None:
            raise not_found("bot", name, "GET /sd lists the bots")
        to = await _numbered(tx, name, query.get("to", str(newest.version)), "to")
        before = str(max(1, to.version - 1))
        from_ = await _numbered(tx, name, query.get("from", before), "from")
    changes = await _with_lines(runtime_of(request), from_, to)
    if "text/plain" in request.headers.get("accept", ""):
        return PlainTextResponse(_diff_text(name, from_, to, changes))
    return JSONResponse({"bot": name, "from": from_.version, "to": to.version, "diff": changes})


async def _with_lines(runtime: Runtime, from_: ConfigVersion, to: ConfigVersion) -> list[dict[str, Any]]:
    """Return what differs; of files also how many lines, where both versions' can be read."""
    changes = diff(from_.config, to.config)
    hashes = [files_of(version.config) for version in (from_, to)]
    if hashes[0] == hashes[1] or None in hashes:
        return changes
    try:
        before, after = [await runtime.files.contents(sha256) for sha256 in hashes]
    except AwsError as error:
        log.warning("the files of a version cannot be read", bot=to.bot, error=str(error))
        return changes
    return counted(changes, before, after) if before and after else changes


async def change_config(request: Request) -> Response:
    """Record a new version from the template as it is now and the bot's overrides, these among them.

    It runs from its next redeploy on; `apply` begins that at once.
    """
    runtime, name = runtime_of(request), request.path_params["bot"]
    body = await read_body(request, ConfigRequest)
    actor, reason = actor_of(request, body.by), body.reason
    run: Run | None = None
    async with runtime.store.read() as tx:
        files = _template_of(await _active_bot(tx, name), runtime.templates).files
    if files is not None:
        await answered(runtime.files.keep(files.sha256), "bot")
    try:
        async with runtime.store.write() as tx:
            bot = await _active_bot(tx, name)
            newest = await tx.version(name)
            base = newest.overrides if newest is not None else bot.overrides
            overrides = merge_patch(base, body.overrides)
            template = _template_of(bot, runtime.templates)
            config, config_sha = rendered(name, bot.environment, template, overrides)
            require_launchable(name, config, config_sha, runtime.settings)
            facts: Any = {"actor": actor, "reason": reason, "origin": "change", "overrides": overrides}
            number = await record(tx, name, config, config_sha, **facts)
            if body.apply and number != bot.version:
                await take_over(tx, bot, actor)
                run = await blue_green.begin(
                    runtime.settings, tx, bot, version=number, actor=actor, reason=reason
                )
    except ConflictError:
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
    return _begun(runtime, answer, run)


def _template_of(bot: Bot, templates: Templates) -> BotTemplate:
    """Return the bot's template as it is now; raise Refused (conflict) where it is gone."""
    try:
        return templates.get(bot.template, bot.environment)
    except KeyError:
        raise Refused(
            "conflict",
            f"its template {bot.template!r} is gone",
            field="bot",
            remedy="put the file back into the folder of templates and start this service again",
        ) from None


async def roll_back(request: Request) -> Response:
    """Redeploy the bot with the configuration of an earlier version, as a version of its own."""
    runtime, name = runtime_of(request), request.path_params["bot"]
    body = await read_body(request, RollbackRequest)
    actor = actor_of(request, body.by)
    try:
        async with runtime.store.write() as tx:
            bot = await _active_bot(tx, name)
            await take_over(tx, bot, actor)
            to = await _earlier(tx, bot, body.version)
            reason = f"back to version {to.version}: {body.reason}"
            facts: Any = {"actor": actor, "reason": reason, "origin": "rollback", "overrides": to.overrides}
            number = await record(tx, name, to.config, to.config_sha, **facts)
            run = await blue_green.begin(
                runtime.settings, tx, bot, version=number, actor=actor, reason=body.reason
            )
    except ConflictError:
        raise _overtaken(name) from None
    runtime.metrics.rollbacks.inc()
    answer = {
        "bot": name,
        "version": number,
        "rolledBackTo": to.version,
        "configSha": to.config_sha,
        "live": bot.version,
        "diff": diff(bot.config, to.config),
        "warnings": warnings(to.config),
    }
    return _begun(runtime, answer, run)


def _begun(runtime: Runtime, answer: dict[str, Any], run: Run | None) -> Response:
    """Return the answer, with the redeploy that has begun where there is one, and have that driven."""
    if run is None:
        return JSONResponse({**answer, "deploymentId": None}, 200)
    runtime.engine.drive(run)
    location = {"Location": run.path}
    return JSONResponse({**answer, "deploymentId": run.id, "status": run.status}, 202, headers=location)


async def _active_bot(tx: Transaction, name: str) -> Bot:
    bot = await bot_named(tx, name)
    require_active(bot)
    return bot


async def _numbered(tx: Transaction, bot: str, text: str, field: str) -> ConfigVersion:
    """Return the version of that number; raise Refused (unknown) where there is none."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    version = await tx.version(bot, number)
    if version is None:
        raise not_found(field, text, f"GET /bots/{bot}/versions lists them")
    return version


async def _earlier(tx: Transaction, bot: Bot, number: int | None) -> ConfigVersion:
    """Return that version, or the one before what runs; raise Refused where there is none, or it runs."""
    remedy = f"GET /bots/{bot.name}/versions lists them"
    if number is None:
        numbers = [version.version for version in await tx.versions(bot.name)]
        earlier = [number for number in numbers if number < bot.version]
        if not earlier:
            message = f"{bot.name!r} runs its first configuration"
            raise Refused("conflict", message, field="version", remedy=remedy)
        number = earlier[-1]
    version = await _numbered(tx, bot.name, str(number), "version")
    if version.config_sha == bot.config_sha:
        raise Refused("conflict", f"version {number} is what it runs", field="version", remedy=remedy)
    return version


def _overtaken(bot: str) -> Refused:
    return Refused("conflict", f"another call has just changed {bot!r}", field="bot", remedy="ask again")


def _summary(version: ConfigVersion, live: int | None) -> dict[str, Any]:
    """Return a version without its configuration. `live`: the number of the version that runs."""
    return {
        "version": version.version,
        "configSha": version.config_sha,
        "at": iso(version.at),
        "by": version.actor,
        "reason": version.reason,
        "origin": version.origin,
        "live": version.version == live,
        "diff": version.diff,
    }


def _diff_text(bot: str, from_: ConfigVersion, to: ConfigVersion, changes: Sequence[dict[str, Any]]) -> str:
    def title(version: ConfigVersion) -> str:
        origin = f"{version.origin} by {version.actor} at {iso(version.at)}"
        return f"{bot} {version.version}, {origin}: {version.reason}"

    head = f"--- {title(from_)}\n+++ {title(to)}\n"
    return head + (readable(changes) or "the same\n")


_REFUSALS: Final = {
    404: ("Unknown bot, or no such version.", ANY),
    409: ("Another run is at work on the bot, or it runs this already.", ANY),
}

OPERATIONS: Final = (
    Operation(
        "GET",
        "/bots/{bot}/versions",
        list_versions,
        {200: ("Newest first.", list[dict[str, Any]]), 404: ("Unknown bot.", ANY)},
    ),
    Operation(
        "GET",
        "/bots/{bot}/versions/{version}",
        show_version,
        {200: ("The version.", ANY), 404: ("No such version.", ANY)},
    ),
    Operation(
        "GET",
        "/bots/{bot}/diff",
        show_diff,
        {200: ("By path (text where it is asked for).", ANY), 404: ("No such version.", ANY)},
        query={
            "from": "A version; without it, the one before `to`.",
            "to": "A version; without it, the newest.",
        },
    ),
    Operation(
        "POST",
        "/bots/{bot}/config",
        change_config,
        {
            200: ("It is kept; nothing was begun.", ANY),
            202: ("The redeploy has begun (with `apply`).", ANY),
            **_REFUSALS,
        },
        body=ConfigRequest,
    ),
    Operation(
        "POST",
        "/bots/{bot}/rollback",
        roll_back,
        {202: ("The redeploy has begun.", ANY), **_REFUSALS},
        body=RollbackRequest,
    ),
)
