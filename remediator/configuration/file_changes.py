"""How much of a bot's files differs between two versions, in lines. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from remediator.configuration.rendering import FILE


def counted(
    changes: Iterable[Mapping[str, Any]], before: Mapping[str, bytes], after: Mapping[str, bytes]
) -> list[dict[str, Any]]:
    """Return the changes, those of text files with the number of lines `added` and `removed`.

    `before`, `after`: the files of both versions by path. A line that only moved is neither.
    """
    result = []
    for change in changes:
        name = str(change["path"]).removeprefix(f"{FILE}.")
        old, new = _lines(before.get(name, b"")), _lines(after.get(name, b""))
        counts = {}
        if name != change["path"] and old is not None and new is not None:
            counts = {"added": (new - old).total(), "removed": (old - new).total()}
        result.append({**change, **counts})
    return result


def _lines(content: bytes) -> Counter[str] | None:
    """Return how often each line occurs; None where it is no text."""
    try:
        return Counter(content.decode().splitlines())
    except UnicodeDecodeError:
        return None
