"""The channels that there are."""

from typing import Final

from remediator.notifications.channel import Channel
from remediator.notifications.telegram import Telegram
from remediator.settings import Settings

CHANNELS: Final[list[type[Channel]]] = [Telegram]


def channel_of(settings: Settings) -> Channel | None:
    """Return the first channel for which there are settings; None: messages end in the log alone."""
    built = (channel.from_settings(settings) for channel in CHANNELS)
    return next((channel for channel in built if channel is not None), None)
