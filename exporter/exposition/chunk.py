"""A few hundred bots as columns, and their exposition rendered and compressed, family by family."""

from array import array
from collections.abc import Callable, Iterator, MutableSequence
from functools import reduce
from operator import or_
from typing import Any

from exporter import metrics
from exporter.exposition.columns import ABSENT, CHANGING, NOTHING, NUMBERS, REASONS, escape, info_labels
from exporter.exposition.gzip_members import compress_member
from exporter.metrics import PER_BOT
from exporter.result import FAILURE_KINDS
from exporter.targets import Target

_BIT = {family: 1 << index for index, family in enumerate(PER_BOT)}
_NUMBER_BITS = tuple(_BIT[column.family] for column in NUMBERS)
_CHANGING_BITS = reduce(or_, _NUMBER_BITS[:CHANGING])
_WIDTH = len(NUMBERS)
_NOTHING = array("d", NOTHING)
_INFO, _CONFIG, _FAILURE = (
    _BIT[family] for family in (metrics.BOT_INFO, metrics.BOT_CONFIG_INFO, metrics.BOT_PROBE_FAILURE_INFO)
)
_CHANNEL, _FAILED = (_BIT[family] for family in (metrics.BOT_CHANNEL_UP, metrics.BOT_USAGE_FAILED_TOTAL))
Channels = tuple[tuple[str, bool], ...]  # name, and whether it is up
Counts = tuple[float, ...]  # in the order of FAILURE_KINDS; empty where the bot tells none
_ALL = (1 << len(PER_BOT)) - 1

Row = tuple[Target, str, str, Channels, Counts, tuple[float, ...], tuple[int, ...]]


class Chunk:
    """Rows of bots. `dirty` has a bit for each family whose members are out of date.

    `touched` and `rendered` are monotonic seconds.
    """

    __slots__ = (
        "_channels", "_config", "_failed", "_failures", "_numbers", "_rows", "_targets", "_versions",
        "dirty", "members", "rendered", "shrunk", "touched",
    )  # fmt: skip

    def __init__(self) -> None:
        self._targets: list[Target] = []
        self._rows: dict[str, int] = {}
        self._numbers = array("d")  # row after row, so that a bot is one slice and a column is one too
        self._versions: list[str] = []
        self._config: list[str] = []
        self._channels: list[Channels] = []
        self._failed: list[Counts] = []
        self._failures = tuple(bytearray() for _ in metrics.ENDPOINTS)
        self.members: list[bytes] = [b""] * len(PER_BOT)
        self.dirty = 0
        self.shrunk = False  # a bot left: the members must not be served any more
        self.touched = self.rendered = 0.0

    def __len__(self) -> int:
        return len(self._targets)

    def put_target(self, target: Target) -> None:
        """Add a bot, or replace its target."""
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
        channels: Channels,
        failed: Counts,
        numbers: tuple[float, ...],
        failures: tuple[int, ...],
    ) -> None:
        """Replace a bot's row; `config` is empty where the bot reports none."""
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
        if self._channels[row] != channels:
            self._channels[row] = channels
            dirty |= _CHANNEL
        if self._failed[row] != failed:
            self._failed[row] = failed
            dirty |= _FAILED
        self.dirty = dirty

    def rows(self) -> Iterator[Row]:
        """Yield each bot's row as the arguments of `put`."""
        for row, target in enumerate(self._targets):
            numbers = tuple(self._numbers[row * _WIDTH : (row + 1) * _WIDTH])
            reasons = tuple(column[row] for column in self._failures)
            facts = self._versions[row], self._config[row], self._channels[row], self._failed[row]
            yield target, *facts, numbers, reasons

    def remove(self, bot: str) -> None:
        """Remove a bot; the last row moves to where it was."""
        row = self._rows.pop(bot, None)
        if row is None:
            return
        last = self._targets[-1].bot
        columns: tuple[MutableSequence[Any], ...] = (
            *self._failures, self._versions, self._config, self._channels, self._failed, self._targets
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
                self.members[index] = compress_member(text.encode()) if text else b""
        self.dirty, self.shrunk = 0, False

    def _add(self, target: Target) -> int:
        """Append an empty row, and return its index."""
        row = self._rows[target.bot] = len(self._targets)
        self._targets.append(target)
        self.dirty |= _INFO
        self._numbers.extend(_NOTHING)
        for reasons in self._failures:
            reasons.append(0)
        self._versions.append("")
        self._config.append("")
        self._channels.append(())
        self._failed.append(())
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

    def _render_channels(self, family: metrics.Family) -> str:
        rows = zip(self._targets, self._channels, strict=True)
        return "".join(
            [
                f'{family.name}{{bot="{target.bot}",channel="{escape(name)}"}} {up:d}\n'
                for target, channels in rows
                for name, up in channels
            ]
        )

    def _render_failed(self, family: metrics.Family) -> str:
        rows = zip(self._targets, self._failed, strict=True)
        return "".join(
            [
                f'{family.name}{{bot="{target.bot}",kind="{kind}"}} {count:.15g}\n'
                for target, counts in rows
                for kind, count in zip(FAILURE_KINDS, counts, strict=False)
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
    metrics.BOT_CHANNEL_UP: Chunk._render_channels,
    metrics.BOT_USAGE_FAILED_TOTAL: Chunk._render_failed,
    metrics.BOT_PROBE_FAILURE_INFO: Chunk._render_failures,
}
