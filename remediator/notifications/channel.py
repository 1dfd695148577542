"""What a channel to people is to the notifier, and what it answers."""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import aiohttp

from remediator.settings import Settings


@dataclass(frozen=True, slots=True)
class SendResult:
    """`error` is empty when the message was sent; `refused` where the same message would be again.

    `unsendable`: what is refused is this message, not its sender or whom it is for. `retry_after`: seconds in
    which the channel takes nothing.
    """

    error: str = ""
    refused: bool = False
    unsendable: bool = False
    retry_after: float = 0.0


class Channel(Protocol):
    """A way to people. `name` is its label in the series of notifications."""

    name: ClassVar[str]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """Build it; None where the settings do not have what it takes."""

    async def send(self, session: aiohttp.ClientSession, text: str) -> SendResult:
        """Send one message. What keeps it from arriving is told by the result, without a secret in it."""
