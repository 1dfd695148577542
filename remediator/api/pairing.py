"""The calls about who may talk to a bot: who waits to be admitted, and admitting them."""

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from remediator.api.body import read_body
from remediator.api.lookup import actor_of, answered, runtime_of
from remediator.api.operation import ANY, Operation
from remediator.api.requests import PairingRequest
from remediator.configuration.access import dm_policy
from remediator.model import Bot
from remediator.provisioning.idle import bot_named, require_active
from remediator.provisioning.pairing import Pairing


class WaitingView(TypedDict):
    code: str
    sender: str
    name: str
    askedAt: str
    lastSeenAt: str


class PairingView(TypedDict):
    bot: str
    dmPolicy: str
    requests: list[WaitingView]


class ApprovedView(TypedDict):
    bot: str
    sender: str
    keep: str


async def list_pairing(request: Request) -> Response:
    """Ask the bot's instance who wrote to it and waits to be admitted. Takes some seconds."""
    bot = await _asked(request, "pairing.list", actor_of(request))
    waiting = await answered(_pairing(request).waiting(bot), "bot")
    requests: list[WaitingView] = [
        {
            "code": person.code,
            "sender": person.sender,
            "name": person.name,
            "askedAt": person.asked_at,
            "lastSeenAt": person.last_seen_at,
        }
        for person in waiting
    ]
    view: PairingView = {"bot": bot.name, "dmPolicy": dm_policy(bot.config), "requests": requests}
    return JSONResponse(view)


async def approve_pairing(request: Request) -> Response:
    """Let whom the bot gave this code talk to it, until its instance is replaced. Takes some seconds."""
    body = await read_body(request, PairingRequest)
    actor = actor_of(request, body.by)
    bot = await _asked(request, "pairing.approve", actor, code=body.code)
    sender = await answered(_pairing(request).approve(bot, body.code), "bot")
    async with runtime_of(request).store.write() as tx:
        await tx.audit("pairing.approved", bot=bot.name, actor=actor, sender=sender)
    return JSONResponse(ApprovedView(bot=bot.name, sender=sender, keep=_lasting(bot, sender)))


async def _asked(request: Request, event: str, actor: str, **detail: str) -> Bot:
    """Return the bot, which is in service; what is asked of it is in the trail before it is done."""
    async with runtime_of(request).store.write() as tx:
        bot = await bot_named(tx, request.path_params["bot"])
        require_active(bot)
        await tx.audit(event, bot=bot.name, actor=actor, instance=bot.instance_id, **detail)
    return bot


def _pairing(request: Request) -> Pairing:
    return Pairing(runtime_of(request).aws, time.monotonic)


def _lasting(bot: Bot, sender: str) -> str:
    """Return the command that makes it part of the configuration: a redeploy forgets pairings."""
    ids = [str(number) for number in bot.config.get("allow_from", ())]
    return f"botctl config {bot.name} --set 'allow_from=[{','.join(dict.fromkeys([*ids, sender]))}]'"


_REFUSALS: Final = {
    409: ("The bot is not in service.", ANY),
    502: ("AWS refused, or the instance does not answer.", ANY),
}

OPERATIONS: Final = (
    Operation(
        "GET",
        "/bots/{bot}/pairing",
        list_pairing,
        {200: ("Who waits, oldest first.", PairingView), 404: ("Unknown bot.", ANY), **_REFUSALS},
    ),
    Operation(
        "POST",
        "/bots/{bot}/pairing",
        approve_pairing,
        {200: ("They may talk to it.", ApprovedView), 404: ("Unknown bot or code.", ANY), **_REFUSALS},
        body=PairingRequest,
    ),
)
