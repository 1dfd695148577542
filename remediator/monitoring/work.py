"""What a bot tells of its work: whether its channels are up, how its turns end, how long one runs. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of a bot's work; None where it tells nothing of it.

    `succeeded` and `failed` count turns since the bot's process started; `failed` by the kind of failure.
    """

    channels: Mapping[str, bool] | None = None  # name → up; empty: it says that it has none
    turn_age: float | None = None  # seconds; 0: no turn is under way
    succeeded: float | None = None
    failed: Mapping[str, float] | None = None

    @property
    def down(self) -> list[str]:
        """Return the names of the channels that are down."""
        return sorted(name for name, up in (self.channels or {}).items() if not up)
