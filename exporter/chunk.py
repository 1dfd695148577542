"""A few hundred bots as columns, and their exposition rendered and compressed, family by family."""

import zlib
from array import array
from collections.abc import Callable, Iterator, MutableSequence
from functools import reduce
from operator import or_
from typing import Any

from exporter import metrics
from exporter.columns import ABSENT, CHANGING, NOTHING, NUMBERS, REASONS, escape, info_labels
from exporter.metrics import PER_BOT
from exporter.targets import Target

_LEVEL = 1  # the text repeats itself so much that more effort saves little
_BIT = {family: 1 << index for index, family in enumerate(PER_BOT)}
_NUMBER_BITS = tuple(_BIT[column.family] for column in NUMBERS)
_CHANGING_BITS = reduce(or_, _NUMBER_BITS[:CHANGING])
_WIDTH = len(NUMBERS)
_NOTHING = array("d", NOTHING)
_INFO, _CONFIG, _FAILURE = (
    _BIT[family] for family in (metrics.BOT_INFO, metrics.BOT_CONFIG_INFO, metrics.BOT_PROBE_FAILURE_INFO)
)
_ALL = (1 << len(PER_BOT)) - 1


def member(text: bytes) -> bytes:
    """A gzip member of its own: a gzip stream is any number of them, one after the other (RFC 1952, 2.2)."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
    return compressor.compress(text) + compressor.flush()


def unpacked(text: bytes) -> bytes:
    return zlib.decompress(text, 31)


class Chunk:
    """Rows of bots. `dirty` has a bit for each family whose members are out of date."""

    __slots__ = (
        "_config", "_failures", "_numbers", "_rows", "_targets", "_versions",
        "dirty", "members", "rendered", "shrunk", "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self._targets: list[Target] = []
        self._rows: dict[str, int] = {}
        self._numbers = array("d")  # row after row, so that a bot is one slice and a column is one too
        self._versions: list[str] = []
        self._config: list[str] = []
        self._failures = tuple(bytearray() for _ in metrics.ENDPOINTS)
        self.members: list[bytes] = [b""] * len(PER_BOT)
        self.dirty = 0
        self.shrunk = False  # a bot left: what is rendered must not be served any more
        self.touched = self.rendered = 0.0

    def __len__(self) -> int:
        return len(self._targets)

    def put_target(self, target: Target) -> None:
        row = self._rows.get(target.bot)
        if row is None:
            self._add(target)
        else:
            self._targets[row] = target
        self.dirty |= _INFO

    def put(
        self,
        target: Target,
        version: str,
        config: str,
        numbers: tuple[float, ...],
        failures: tuple[int, ...],
    ) -> None:
        """What is known of the bot; `config` is empty where it tells none."""
        row = self._rows.get(target.bot)
        if row is None:
            row = self._add(target)
        dirty = self.dirty | _CHANGING_BITS
        start, end = row * _WIDTH, (row + 1) * _WIDTH
        before, after = self._numbers[start + CHANGING : end], array("d", numbers)
        if before != after[CHANGING:]:
            for old, new, bit in zip(before, numbers[CHANGING:], _NUMBER_BITS[CHANGING:], strict=True):
                if old != new:
                    dirty |= bit
        self._numbers[start:end] = after
        for reasons, reason in zip(self._failures, failures, strict=True):
            if reasons[row] != reason:
                reasons[row] = reason
                dirty |= _FAILURE
        if self._versions[row] != version or self._targets[row] is not target:
            self._versions[row] = version
            self._targets[row] = target
            dirty |= _INFO
        if self._config[row] != config:
            self._config[row] = config
            dirty |= _CONFIG
        self.dirty = dirty

    def rows(self) -> Iterator[tuple[Target, str, str, tuple[float, ...], tuple[int, ...]]]:
        """Each bot with the arguments of `put`."""
        for row, target in enumerate(self._targets):
            numbers = tuple(self._numbers[row * _WIDTH : (row + 1) * _WIDTH])
            failures = tuple(reasons[row] for reasons in self._failures)
            yield target, self._versions[row], self._config[row], numbers, failures

    def remove(self, bot: str) -> None:
        """The last row takes the place of the one that leaves."""
        row = self._rows.pop(bot, None)
        if row is None:
            return
        last = self._targets[-1].bot
        columns: tuple[MutableSequence[Any], ...] = (
            *self._failures, self._versions, self._config, self._targets
        )  # fmt: skip
        for column in columns:
            column[row] = column[-1]
            column.pop()
        self._numbers[row * _WIDTH : (row + 1) * _WIDTH] = self._numbers[-_WIDTH:]
        del self._numbers[-_WIDTH:]
        if last != bot:
            self._rows[last] = row
        self.dirty, self.shrunk = _ALL, True

    def render(self) -> None:
        """Bring the members of every dirty family up to date."""
        for index, family in enumerate(PER_BOT):
            if self.dirty >> index & 1:
                text = _RENDERERS.get(family, Chunk._render_numbers)(self, family)
                self.members[index] = member(text.encode()) if text else b""
        self.dirty, self.shrunk = 0, False

    def _add(self, target: Target) -> int:
        row = self._rows[target.bot] = len(self._targets)
        self._targets.append(target)
        self.dirty |= _INFO
        self._numbers.extend(_NOTHING)
        for reasons in self._failures:
            reasons.append(0)
        self._versions.append("")
        self._config.append("")
        return row

    def _render_numbers(self, family: metrics.Family) -> str:
        lines: list[str] = []
        for index, column in enumerate(NUMBERS):
            if column.family is family:
                values = self._numbers[index::_WIDTH]
                start, end = f'{family.name}{{bot="', f'"{column.labels}}} '
                lines += [
                    f"{start}{target.bot}{end}{value:.15g}\n"
                    for target, value in zip(self._targets, values, strict=True)
                    if value != ABSENT
                ]
        return "".join(lines)

    def _render_info(self, family: metrics.Family) -> str:
        rows = zip(self._targets, self._versions, strict=True)
        return "".join(
            [
                f'{family.name}{{bot="{target.bot}"{info_labels(target, version)}}} 1\n'
                for target, version in rows
            ]
        )

    def _render_config(self, family: metrics.Family) -> str:
        rows = zip(self._targets, self._config, strict=True)
        return "".join(
            [
                f'{family.name}{{bot="{target.bot}",config_sha="{escape(sha)}"}} 1\n'
                for target, sha in rows
                if sha
            ]
        )

    def _render_failures(self, family: metrics.Family) -> str:
        return "".join(
            f'{family.name}{{bot="{self._targets[row].bot}",endpoint="{endpoint}"'
            f',reason="{REASONS[reason - 1]}"}} 1\n'
            for endpoint, reasons in zip(metrics.ENDPOINTS, self._failures, strict=True)
            for row, reason in enumerate(reasons)
            if reason
        )


_RENDERERS: dict[metrics.Family, Callable[[Chunk, metrics.Family], str]] = {
    metrics.BOT_INFO: Chunk._render_info,
    metrics.BOT_CONFIG_INFO: Chunk._render_config,
    metrics.BOT_PROBE_FAILURE_INFO: Chunk._render_failures,
}
