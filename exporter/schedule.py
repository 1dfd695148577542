"""The schedule of probes: a timing wheel. Pure: the caller owns the clock and passes `now`.

A bot's slot is a keyed stable hash of its name modulo its interval, so bots are spread evenly, nothing is
probed all at once at start, and adding or removing bots moves nobody.
"""

from collections.abc import Iterator
from hashlib import blake2b
from math import ceil, floor

_KEY = b"bot-exporter/slot"
TICK = 0.01


def slot(bot: str, interval: float) -> float:
    """Return the seconds into each interval at which the bot is probed, in [0, interval)."""
    digest = blake2b(bot.encode(), digest_size=8, key=_KEY).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53 * interval


class Ring:
    """Bots of one interval, in slots of about `TICK` seconds; slot k is due at every k + n·size ticks."""

    def __init__(self, interval: float) -> None:
        self.size = max(1, ceil(interval / TICK))
        self.step = interval / self.size
        self.slots: dict[int, list[str]] = {}
        self._done: int | None = None  # the last tick handed out

    def add(self, bot: str) -> None:
        self.slots.setdefault(self._index(bot), []).append(bot)

    def remove(self, bot: str) -> None:
        index = self._index(bot)
        self.slots[index].remove(bot)
        if not self.slots[index]:
            del self.slots[index]

    def due(self, now: float) -> Iterator[tuple[str, float]]:
        """Yield bots whose slot has come since the last call, with the time it came; one revolution at most.

        A stall longer than an interval is not made up for: each bot is handed out once.
        """
        current = floor(now / self.step)
        first = current if self._done is None else max(self._done + 1, current - self.size + 1)
        self._done = max(current, first - 1)
        for tick in range(first, current + 1):
            for bot in tuple(self.slots.get(tick % self.size, ())):
                yield bot, tick * self.step

    def next_due(self, now: float) -> float:
        """Return when the next occupied slot comes; one revolution from now if there is none."""
        done = floor(now / self.step) - 1 if self._done is None else self._done
        for tick in range(done + 1, done + 1 + self.size):
            if tick % self.size in self.slots:
                return tick * self.step
        return (done + self.size) * self.step

    def _index(self, bot: str) -> int:
        return min(floor(slot(bot, self.step * self.size) / self.step), self.size - 1)


class Wheel:
    """Rings by interval: which bots are due, and when the next one will be."""

    def __init__(self) -> None:
        self._rings: dict[float, Ring] = {}

    def add(self, bot: str, interval: float) -> None:
        """Schedule a bot that is not yet."""
        if interval not in self._rings:
            self._rings[interval] = Ring(interval)
        self._rings[interval].add(bot)

    def remove(self, bot: str, interval: float) -> None:
        """Remove a bot, given the interval it was added with, which is not stored twice: a fleet is large."""
        self._rings[interval].remove(bot)
        if not self._rings[interval].slots:
            del self._rings[interval]

    @property
    def longest(self) -> float:
        """Return the longest interval in use; 0 while there is none."""
        return max(self._rings, default=0.0)

    def due(self, now: float) -> list[tuple[str, float]]:
        """Return the bots whose slot has come since the last call, with the time it came."""
        return [pair for ring in self._rings.values() for pair in ring.due(now)]

    def next_due(self, now: float) -> float | None:
        """Return when the next slot comes; None while there is nothing to probe."""
        return min((ring.next_due(now) for ring in self._rings.values()), default=None)
