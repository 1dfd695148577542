"""The whole configuration of a bot: canonical, hashed, and what differs between two of them. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from templates import FIXED, BotTemplate, overridden
from templates.facts import (
    IMAGE_GIB,
    INSTANCE_MEMORY_GIB,
    OPENCLAW_IDLE_MB,
    ROOMY_GIB,
    is_known_model,
)

PROBE_INTERVAL: Final = 60  # seconds between two probes of a bot, unless the exporter is told otherwise
HEADROOM_MB: Final = 256  # that a bot should have beyond what it takes to idle
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_NONE: Final = object()


def render(
    bot: str, environment: str, template: BotTemplate, overrides: Mapping[str, Any] = {}
) -> tuple[dict[str, Any], str]:
    """The bot's whole configuration, and the hash of its canonical JSON. Raises templates.OverrideError."""
    config = {"bot": bot, "environment": environment, "template": template.name}
    own = overridden(template, overrides)
    config |= own.model_dump(mode="json", exclude=set(FIXED))
    return config, hashed(config)


def patched(overrides: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """JSON merge patch (RFC 7396): mappings are merged, null removes, everything else replaces."""
    out = dict(overrides)
    for key, value in patch.items():
        below = out.get(key)
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            out[key] = patched(below if isinstance(below, Mapping) else {}, value)
        else:
            out[key] = value
    return {key: value for key, value in out.items() if value != {}}


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


def warnings(config: Mapping[str, Any]) -> list[str]:
    """What is allowed and likely a mistake, each with the field and what to do instead."""
    return [
        *_of_memory(config),
        *_of_model(config),
        *_of_times(config),
        *_of_storage(config),
        *_of_port(config),
    ]


def _of_memory(config: Mapping[str, Any]) -> Iterator[str]:
    kind = str(config["instance_type"])
    given = min(_gigabytes(config["memory"]), INSTANCE_MEMORY_GIB.get(kind, 1 << 10))
    left = given * 1024 - OPENCLAW_IDLE_MB
    if left < HEADROOM_MB:
        yield (
            f"memory: OpenClaw was measured at {OPENCLAW_IDLE_MB} MB idle, so {given} GB on a {kind} leave"
            f" {left} MB to work in; a t3.small with memory 2GB is the smallest that does not run out"
        )


def _of_model(config: Mapping[str, Any]) -> Iterator[str]:
    if not is_known_model(str(config["model"])):
        yield (
            f"model: {config['model']} is of no known family; if it is not misspelt, nothing is wrong,"
            " but its costs may not be known"
        )


def _of_times(config: Mapping[str, Any]) -> Iterator[str]:
    heartbeat, cooldown = _seconds(config["heartbeat"]), _seconds(config["cooldown"])
    if heartbeat < PROBE_INTERVAL:
        yield (
            f"heartbeat: {config['heartbeat']} is shorter than the {PROBE_INTERVAL} s between two probes,"
            " and each beat is a paid call of the model; minutes are usual"
        )
    if heartbeat < cooldown:
        yield f"heartbeat: {config['heartbeat']} is shorter than the cooldown of {config['cooldown']}"


def _of_storage(config: Mapping[str, Any]) -> Iterator[str]:
    size = _gigabytes(config["storage"])
    if size < IMAGE_GIB:
        yield (
            f"storage: EC2 will refuse {size} GB, as Ubuntu's image has {IMAGE_GIB} GB; use {ROOMY_GIB}GB"
            " or more"
        )
    elif size < ROOMY_GIB:
        yield f"storage: {size} GB are soon full of the system, Node and OpenClaw; use {ROOMY_GIB}GB or more"


def _of_port(config: Mapping[str, Any]) -> Iterator[str]:
    if config["probe"]["port"] < 1024:
        yield f"probe.port: the bot is not root, so it cannot listen on {config['probe']['port']}; use 18790"


def _gigabytes(size: object) -> int:
    return int(str(size).removesuffix("GB"))


def _seconds(duration: object) -> int:
    text = str(duration)
    return int(text[:-1]) * _SECONDS[text[-1]]
