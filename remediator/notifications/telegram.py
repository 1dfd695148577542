"""Telegram's Bot API: send a message, read what people wrote."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self, TypeGuard

import aiohttp
import orjson
import structlog
from pydantic import SecretStr

from remediator.notifications.channel import SendResult
from remediator.settings import Settings

log = structlog.get_logger()

SEND_TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
MAX_LENGTH: Final = 4096  # characters of a Telegram message (Bot API: sendMessage)
MAX_ANSWER: Final = 16 * 1024  # bytes that are read of an answer
LONGEST_RETRY_AFTER: Final = 3600.0  # seconds; what is longer is asked again by then
# What Telegram says (after "Bad Request: ") of a message that it will never take, whoever sends it.
_OF_THE_MESSAGE: Final = (
    "message text is empty",
    "message is too long",
    "can't parse entities",
    "text must be",
)


@dataclass(frozen=True, slots=True)
class TelegramResult(SendResult):
    """`new_chat_id`: the group became a supergroup, which has this id."""

    new_chat_id: str = ""


def read_answer(status: int, answer: object) -> TelegramResult:
    """Return what an answer to sendMessage means: its status and JSON (Bot API: "Making requests")."""
    if status == 200:
        return TelegramResult()
    fields = answer if isinstance(answer, dict) else {}
    description = str(fields.get("description", ""))[:200]
    parameters = fields.get("parameters")
    parameters = parameters if isinstance(parameters, dict) else {}
    retry_after, chat_id = parameters.get("retry_after"), parameters.get("migrate_to_chat_id")
    return TelegramResult(
        f"Telegram answered {status}: {description}" if description else f"Telegram answered {status}",
        refused=status < 500 and status != 429,
        unsendable=status == 400 and any(words in description for words in _OF_THE_MESSAGE),
        retry_after=min(float(retry_after), LONGEST_RETRY_AFTER) if _is_count(retry_after) else 0.0,
        new_chat_id=str(chat_id) if isinstance(chat_id, int) and not isinstance(chat_id, bool) else "",
    )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(slots=True)
class Telegram:
    """A bot of Telegram's, and the one chat that it writes to and reads from."""

    name: ClassVar[str] = "telegram"

    api_url: str
    token: SecretStr
    chat_id: str

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Build the client; None where there is no token or no chat."""
        if settings.telegram_token is None or settings.telegram_chat_id is None:
            return None
        return cls(settings.telegram_api_url, settings.telegram_token, settings.telegram_chat_id)

    async def send(self, session: aiohttp.ClientSession, text: str) -> SendResult:
        """Send the text, cut to MAX_LENGTH, and follow the chat where it has moved.

        The error is without the URL: the token is a part of it.
        """
        result = await self._send(session, text)
        if result.new_chat_id and result.new_chat_id != self.chat_id:
            log.warning(
                "the chat has a new id, which is used from now on",
                chat_id=result.new_chat_id,
                remedy=f"set BOT_REMEDIATOR_TELEGRAM_CHAT_ID={result.new_chat_id}",
            )
            self.chat_id = result.new_chat_id
            result = await self._send(session, text)
        return result

    async def _send(self, session: aiohttp.ClientSession, text: str) -> TelegramResult:
        message = {"chat_id": self.chat_id, "text": text[:MAX_LENGTH]}
        try:
            async with session.post(self._url("sendMessage"), json=message, timeout=SEND_TIMEOUT) as response:
                return read_answer(response.status, await read_object(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return TelegramResult(f"Telegram could not be reached: {type(error).__name__}")

    async def updates(
        self, session: aiohttp.ClientSession, offset: int, seconds: int
    ) -> list[dict[str, Any]] | None:
        """Return what was written to us since `offset`, waiting up to `seconds`; None: it cannot be had."""
        query = {"offset": str(offset), "timeout": str(seconds), "allowed_updates": '["message"]'}
        try:
            timeout = aiohttp.ClientTimeout(total=seconds + 10)
            async with session.get(self._url("getUpdates"), params=query, timeout=timeout) as response:
                if response.status != 200:
                    log.warning("answers cannot be read", status=response.status)
                    return None
                updates: list[dict[str, Any]] = (await response.json())["result"]
                return updates
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            log.warning("answers cannot be read", error=type(error).__name__)
            return None

    def _url(self, method: str) -> str:
        return f"{self.api_url.rstrip('/')}/bot{self.token.get_secret_value()}/{method}"


async def read_object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the JSON object of an answer of Telegram's; {} where it is none, or longer than MAX_ANSWER."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            return {}
    try:
        answer = orjson.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
