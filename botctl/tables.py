"""From JSON to what a terminal shows: cells, tables, lines. Pure.

What the service says may quote a bot, and a bot may say anything: nothing of it reaches the terminal as a
control sequence or as markup.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
Column = tuple[str, str | Callable[[Row], Any]]  # title, and the key or what makes the cell

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_STYLES: Final = {
    "bold red": "failed escalated quarantined critical firing not_cured closed stopped denied refused away",
    "yellow": "blocked degraded deploying warning pending running paused cancelling waiting missing differs",
    "green": "active recovered deployed healthy done cured resolved completed open redeployed retired ok",
    "dim": "unneeded cancelled shadowed unknown skipped",
}
STYLE_OF: Final = {word: style for style, words in _STYLES.items() for word in words.split()}


def clean(value: object) -> str:
    """Return a value as text in which no character controls the terminal."""
    return _CONTROL.sub("�", str(value))


def cell(value: object) -> Text:
    """Return a value as a person reads it: times without their fractions, a dash where there is nothing."""
    if value is None or value == "":
        return Text("-", style="dim")
    if isinstance(value, Text):
        return value
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, float):
        return Text(f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}".removesuffix(".00"))
    if isinstance(value, Mapping):
        return Text(", ".join(f"{clean(key)}={cell(part).plain}" for key, part in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Text(", ".join(cell(part).plain for part in value))
    text = clean(value)
    if _ISO.fullmatch(text):
        return Text(moment(text))
    return Text(text, style=STYLE_OF.get(text, ""))


def table(columns: Iterable[Column], rows: Iterable[Row], *, empty: str, title: str = "") -> Table | Text:
    """Return a line for each row, or the text `empty`; a column without a value is left out."""
    rows = list(rows)
    if not rows:
        return Text(empty, style="dim")
    drawn = Table(
        box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False
    )
    cells = {name: [_value(row, key) for row in rows] for name, key in columns}
    cells = {
        name: values for name, values in cells.items() if any(value not in (None, "") for value in values)
    }
    for name, values in cells.items():
        numbers = all(
            isinstance(value, int | float) and not isinstance(value, bool)
            for value in values
            if value is not None
        )
        drawn.add_column(Text(clean(name)), justify="right" if numbers else "left", overflow="fold")
    for line in zip(*cells.values(), strict=True):
        drawn.add_row(*map(cell, line))
    return drawn


def _value(row: Row, key: str | Callable[[Row], Any]) -> Any:
    return row.get(key) if isinstance(key, str) else key(row)


def record(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names and values, one a line; empty values are left out."""
    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="dim")
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        if value not in (None, "", [], {}):
            drawn.add_row(Text(clean(name)), cell(value))
    return drawn


def bullets(texts: Iterable[object], mark: str = "•") -> Text:
    return Text("\n".join(f"{mark} {clean(text)}" for text in texts))


def moment(iso: str) -> str:
    """Return a time without its fraction of a second."""
    return clean(iso[:19].replace("T", " ") + iso[len(iso.rstrip("Z")) :])


def lasted(row: Row) -> str:
    """Return the time from `startedAt` to `finishedAt`; empty where it is not over."""
    if not row.get("startedAt") or not row.get("finishedAt"):
        return ""
    return duration((_at(row["finishedAt"]) - _at(row["startedAt"])).total_seconds())


def duration(seconds: float) -> str:
    """Return seconds as 4.2s, 3m 05s or 2h 10m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def _at(iso: str) -> datetime:
    return datetime.fromisoformat(iso.replace("Z", "+00:00"))
