"""The archive inside a backup: every row of every table, as JSON lines, compressed. Pure.

    {"archive": "bot-orchestrator", "format": 1, "schema": "0005", "release": "0.1.0", "takenAt": 1795…}
    {"table": "bots", "columns": ["name", "template", …]}
    ["forge", "support", …]
    …
    {"end": {"bots": 8, "runs": 120, …}}

`age -d FILE | gunzip` shows it.
"""

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import orjson

NAME: Final = "bot-orchestrator"
FORMAT: Final = 1


class ArchiveError(Exception):
    """A file is no archive, or none that this release can read."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of an archive."""

    schema: str  # Alembic's revision
    release: str
    taken_at: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table; at least one a table, which may have none."""

    table: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass
class Writer:
    """Writes an archive into a binary file, table by table. Without `end` it is none."""

    sink: BinaryIO
    header: Header
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._file = gzip.GzipFile(fileobj=self.sink, mode="wb", compresslevel=6, mtime=0)
        head = {"archive": NAME, "format": FORMAT, "schema": self.header.schema}
        self._line({**head, "release": self.header.release, "takenAt": self.header.taken_at})
        self._table = ""

    def table(self, name: str, columns: Iterable[str]) -> None:
        """Begin a table; its rows follow."""
        self._table, self.counts[name] = name, 0
        self._line({"table": name, "columns": list(columns)})

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        self._file.write(b"".join(orjson.dumps(list(row)) + b"\n" for row in rows))
        self.counts[self._table] += len(rows)

    def end(self) -> None:
        """Write how many rows each table has, by which a reader knows that nothing is missing."""
        self._line({"end": self.counts})
        self._file.close()

    def _line(self, value: Mapping[str, Any]) -> None:
        self._file.write(orjson.dumps(value) + b"\n")


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was read to its end once, so that nothing in it is a surprise."""

    data: bytes
    header: Header
    counts: Mapping[str, int]

    @classmethod
    def read(cls, data: bytes) -> "Archive":
        """Read an archive. Raise ArchiveError where a line, a row or its end is missing or malformed."""
        counts: dict[str, int] = {}
        try:
            lines = _lines(data)
            header = _header(next(lines))
            for batch in _batches(lines, 1000, counts):
                if any(len(row) != len(batch.columns) for row in batch.rows):
                    raise ArchiveError(f"a row of {batch.table} has too few or too many columns")
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, StopIteration) as error:
            raise ArchiveError(f"it is no archive of ours, or is damaged: {error}") from None
        return cls(data, header, counts)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the rows again, at most `size` at a time."""
        lines = _lines(self.data)
        next(lines)
        yield from _batches(lines, size, {})


def _lines(data: bytes) -> Iterator[Any]:
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        yield from map(orjson.loads, file)


def _header(line: Mapping[str, Any]) -> Header:
    if line.get("archive") != NAME:
        raise ArchiveError("it is something else than a backup of this service")
    if line["format"] != FORMAT:
        raise ArchiveError(
            f"its format is {line['format']}, this release reads {FORMAT}; "
            f"use release {line['release']} or newer"
        )
    return Header(line["schema"], line["release"], line["takenAt"])


def _batches(lines: Iterator[Any], size: int, counts: dict[str, int]) -> Iterator[Batch]:
    """Yield the batches; `counts` is filled with them, and compared with what the end says."""
    batch: Batch | None = None
    rows: list[Sequence[Any]] = []
    for line in lines:
        if isinstance(line, list) and batch is not None:
            rows.append(line)
            counts[batch.table] += 1
            if len(rows) == size:
                yield Batch(batch.table, batch.columns, rows)
                rows = []
            continue
        if batch is not None:
            yield Batch(batch.table, batch.columns, rows)
        if "end" in line:
            if counts != line["end"]:
                raise ArchiveError(f"it has {counts} rows, not {line['end']}")
            return
        batch, rows = Batch(line["table"], line["columns"], []), []
        counts[batch.table] = 0
    raise ArchiveError("its end is missing")
