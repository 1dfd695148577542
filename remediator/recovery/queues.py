"""How many updates wait for a bot at a channel, look by look: a queue that never falls is not heard. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final, Self

LOOKS: Final = 3  # a queue that does not fall for so many is stalled
KEPT_FOR: Final = 3.0  # intervals; what is older says nothing of now


@dataclass(frozen=True, slots=True)
class QueueAnswer:
    """What a channel said: how many updates wait, or that it refuses the token; else why neither is known."""

    pending: int | None = None
    refused: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Queue:
    """The last looks at the queue of a bot's channel, oldest first. `at`: of the newest (Unix seconds)."""

    at: float
    pending: tuple[int, ...] = ()
    refused: bool = False

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Self:
        """Read it as the store has it."""
        return cls(fact["at"], tuple(fact["pending"]), fact["refused"])

    def fact(self) -> dict[str, Any]:
        """Return it as the store has it."""
        return asdict(self)

    @property
    def stalled(self) -> bool:
        """Return whether updates waited at each of the last looks, and never fewer than the time before."""
        return stalled(self.pending)


def stalled(pending: tuple[int, ...]) -> bool:
    """Return whether the last three looks saw updates that wait, and never fewer than the one before."""
    last = pending[-LOOKS:]
    return len(last) == LOOKS and min(last) > 0 and all(a <= b for a, b in pairwise(last))


def next_queue(before: Queue | None, answer: QueueAnswer, now: float, interval: float) -> Queue | None:
    """Return the queue after one more look. No answer changes nothing, until what is known is too old."""
    if before is not None and now - before.at > KEPT_FOR * interval:
        before = None
    if answer.refused:
        return Queue(now, refused=True)
    if answer.pending is None:
        return before
    looks = before.pending if before is not None else ()
    return Queue(now, (*looks, answer.pending)[-LOOKS:])
