"""The whole configuration of a bot: canonical, hashed, and what differs between two of them. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from templates import BotTemplate, overridden

_NONE: Final = object()


def render(
    bot: str, environment: str, template: BotTemplate, overrides: Mapping[str, Any] = {}
) -> tuple[dict[str, Any], str]:
    """The bot's whole configuration, and the hash of its canonical JSON. Raises templates.OverrideError."""
    config = {"bot": bot, "environment": environment, "template": template.name}
    own = overridden(template, overrides)
    config |= own.model_dump(mode="json", exclude={"name", "description"})
    return config, hashed(config)


def canonical(config: Mapping[str, Any]) -> str:
    """The same text for the same content, whatever the order of its fields."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))


def hashed(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What makes `after` of `before`, by path: {"path": "probe.port", "from": 1, "to": 2}.

    A field that was added has no `from`, one that was removed has no `to`. Lists differ as a whole.
    """
    return list(_changes("", before, after))


def _changes(above: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key in sorted({*before, *after}):
        old, new = before.get(key, _NONE), after.get(key, _NONE)
        path = above + key
        # An empty mapping has no path below it that could tell it from nothing.
        if isinstance(old, Mapping) and isinstance(new, Mapping) and old and new:
            yield from _changes(f"{path}.", old, new)
        elif old is _NONE or new is _NONE or canonical({"": old}) != canonical({"": new}):
            values = {"from": old, "to": new}
            yield {"path": path} | {name: value for name, value in values.items() if value is not _NONE}


def applied(config: Mapping[str, Any], changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """`config` with the changes made: `applied(a, diff(a, b)) == b`."""
    out = deepcopy(dict(config))
    for change in changes:
        *above, key = str(change["path"]).split(".")
        place = out
        for name in above:
            place = place[name]
        if "to" in change:
            place[key] = change["to"]
        else:
            del place[key]
    return out


def readable(changes: Iterable[Mapping[str, Any]]) -> str:
    """A line a change: `~ heartbeat: 20m → 30m`."""
    lines = []
    for change in changes:
        old, new = (_short(change[name]) if name in change else None for name in ("from", "to"))
        said = f"{old} → {new}" if old is not None and new is not None else new or old
        sign = "+" if old is None else "-" if new is None else "~"
        lines.append(f"{sign} {change['path']}: {said}\n")
    return "".join(lines)


def _short(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, sort_keys=True)
