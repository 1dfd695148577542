"""The kinds of channels that can be asked from outside how many updates wait for a bot. A row is a kind.

The token that a question takes is part of Telegram's URLs: no URL, and no error of the client's that may
quote one, leaves this module.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import aiohttp
from pydantic import SecretStr

from remediator.aws.parameter_store import token_parameter
from remediator.notifications.telegram import read_object
from remediator.recovery.queues import QueueAnswer
from remediator.settings import Settings

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)

Ask = Callable[[aiohttp.ClientSession, str, SecretStr], Awaitable[QueueAnswer]]


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """A kind of channel: where its token and its API are, and how it is asked for the queue."""

    name: str  # as bots name it among their channels
    parameter: Callable[[str], str]  # of the token of a bot
    api_url: Callable[[Settings], str]
    ask: Ask


async def ask_telegram(session: aiohttp.ClientSession, api_url: str, token: SecretStr) -> QueueAnswer:
    """Call getWebhookInfo, which disturbs no poller: `pending_update_count` is what nobody has fetched."""
    url = f"{api_url.rstrip('/')}/bot{quote(token.get_secret_value(), safe=':')}/getWebhookInfo"
    try:
        # A redirect would carry the token to another host.
        async with session.get(url, timeout=TIMEOUT, allow_redirects=False) as response:
            return _read(response.status, await read_object(response))
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return QueueAnswer(problem=f"Telegram could not be reached: {type(error).__name__}")


def _read(status: int, answer: Mapping[str, Any]) -> QueueAnswer:
    if status == HTTPStatus.OK:
        result = answer.get("result")
        pending = result.get("pending_update_count") if isinstance(result, dict) else None
        if type(pending) is int and pending >= 0:
            return QueueAnswer(pending)
        return QueueAnswer(problem="Telegram answered something else than WebhookInfo")
    # 401: revoked; 404: no token at all. A proxy's 404 has not Telegram's body.
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.NOT_FOUND) and answer.get("error_code") == status:
        return QueueAnswer(refused=True)
    return QueueAnswer(problem=f"Telegram answered {status}")


CHANNEL_KINDS: Final = (
    ChannelKind("telegram", token_parameter, lambda settings: settings.telegram_api_url, ask_telegram),
)
