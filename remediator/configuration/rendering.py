"""The whole configuration of a bot: made, hashed, compared and checked. Pure."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

from exporter.durations import parse_duration
from remediator.configuration.access import warnings_of_access
from remediator.errors import Refused
from templates import FIXED, BotTemplate, OverrideError, overridden
from templates.facts import (
    IMAGE_GIB,
    OPENCLAW_IDLE_MB,
    OPENCLAW_TURN_MB,
    ROOMY_GIB,
    current_model,
)
from templates.instance_types import INSTANCE_TYPES, family_of
from templates.models import is_known_model, retired_for
from templates.models import source as catalogue

PROBE_INTERVAL: Final = 60  # seconds between two probes of a bot, unless the exporter is told otherwise
HEADROOM_MB: Final = 256  # that a bot should have beyond what a turn takes
FILE: Final = "files.names"  # above the path of a file
_NONE: Final = object()
# Fields that may say nothing: then they are left out, and a new one changes the hash of no bot that there is.
_OPTIONAL: Final = [name for name, field in BotTemplate.model_fields.items() if field.default in (None, [])]


def render(
    bot: str, environment: str, template: BotTemplate, overrides: Mapping[str, Any] = {}
) -> tuple[dict[str, Any], str]:
    """Return the bot's whole configuration, and the hash of its canonical JSON.

    Raises templates.OverrideError.
    """
    config: dict[str, Any] = {"bot": bot, "environment": environment, "template": template.name}
    fields = overridden(template, overrides).model_dump(mode="json", exclude=set(FIXED))
    config |= {name: value for name, value in fields.items() if name not in _OPTIONAL or value}
    return config, hashed(config)


def files_of(config: Mapping[str, Any]) -> str | None:
    """Return the SHA-256 of the archive of a configuration's files; None where it has none."""
    files = config.get("files")
    return files["sha256"] if files else None


def rendered(
    bot: str, environment: str, template: BotTemplate, overrides: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Return the same as `render`; Refused (invalid) names the override that is wrong.

    A model that no provider has any more is refused, too, unless it has an alias; so is such a fallback.
    """
    try:
        config, config_sha = render(bot, environment, template, overrides)
    except OverrideError as error:
        raise Refused("invalid", error.problem, field=error.field, remedy=error.remedy) from None
    for field, model in _models(config):
        instead = retired_for(model)
        if instead is not None:
            problem = f"{model} is retired, says {catalogue()}: each turn with it would fail"
            remedy = f"use {instead}" if instead else f"use another of {model.partition('/')[0]}"
            raise Refused("invalid", problem, field=f"overrides.{field}", remedy=remedy)
    return config, config_sha


def _models(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the models that are asked in turn, each with the path of its field."""
    yield "model", str(config["model"])
    for number, model in enumerate(config.get("fallbacks", ())):
        yield f"fallbacks.{number}", str(model)


def merge_patch(overrides: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a JSON merge patch (RFC 7396): mappings are merged, null removes, everything else replaces."""
    out = dict(overrides)
    for key, value in patch.items():
        below = out.get(key)
        if value is None:
            out.pop(key, None)
        elif isinstance(value, Mapping):
            out[key] = merge_patch(below if isinstance(below, Mapping) else {}, value)
        else:
            out[key] = value
    return {key: value for key, value in out.items() if value != {}}


def canonical(config: Mapping[str, Any]) -> str:
    """Return the same text for the same content, whatever the order of its fields."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))


def hashed(config: Mapping[str, Any]) -> str:
    """Return a configuration's `config_sha`."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what makes `after` of `before`, by path: {"path": "probe.port", "from": 1, "to": 2}.

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
    """Return `config` with the changes made: `applied(a, diff(a, b)) == b`."""
    out = deepcopy(dict(config))
    for change in changes:
        *above, key = _keys(change["path"])
        parent = out
        for name in above:
            parent = parent[name]
        if "to" in change:
            parent[key] = change["to"]
        else:
            del parent[key]
    return out


def _keys(path: str) -> list[str]:
    """Return the keys of a path. One of the files has dots of its own."""
    return (
        [*FILE.split("."), path.removeprefix(f"{FILE}.")] if path.startswith(f"{FILE}.") else path.split(".")
    )


def readable(changes: Iterable[Mapping[str, Any]]) -> str:
    """Write a line a change: `~ heartbeat: 20m → 30m`, `~ files.workspace/SOUL.md: +2 -1`."""
    lines = []
    for change in changes:
        path = str(change["path"])
        old, new = (_short(path, change[name]) if name in change else None for name in ("from", "to"))
        text = f"{old} → {new}" if old is not None and new is not None else new or old
        if "added" in change:
            text = f"+{change['added']} -{change['removed']}"
        sign = "+" if old is None else "-" if new is None else "~"
        lines.append(f"{sign} {path.replace(f'{FILE}.', 'files.', 1)}: {text}\n")
    return "".join(lines)


def _short(path: str, value: Any) -> str:
    if path == "files" and value:
        return ", ".join(value["names"])
    if path.startswith("files."):
        return str(value)[:12]  # of a hash
    return value if isinstance(value, str) and value else json.dumps(value, sort_keys=True)


def warnings(config: Mapping[str, Any]) -> list[str]:
    """Return what is allowed and likely a mistake, each with the field and what to do instead."""
    return [
        *_of_memory(config),
        *_of_model(config),
        *_of_times(config),
        *_of_storage(config),
        *_of_port(config),
        *warnings_of_access(config),
    ]


def _of_memory(config: Mapping[str, Any]) -> Iterator[str]:
    kind = str(config["instance_type"])
    known = INSTANCE_TYPES.get(kind)
    memory = min(_gigabytes(config["memory"]), known.memory_gib if known is not None else 1 << 10)
    if memory * 1024 - OPENCLAW_TURN_MB < HEADROOM_MB:
        yield (
            f"memory: OpenClaw was measured at {OPENCLAW_IDLE_MB} MB idle and {OPENCLAW_TURN_MB} in a turn,"
            f" so with {memory:g} GB on a {kind} it works from swap, slowly; {_roomier(kind)} with memory"
            " 2GB is the smallest that has the room"
        )


def _roomier(kind: str) -> str:
    """Return the smallest type of the family that has the room for a turn."""
    sizes = [size.name for size in family_of(kind) if size.memory_gib >= 2]
    return f"a {sizes[0]}" if sizes else "a t3.small"


def _of_model(config: Mapping[str, Any]) -> Iterator[str]:
    for field, model in _models(config):
        if current_model(model) != model:
            yield (
                f"{field}: {model} is retired, no provider has it: the bot is run with"
                f" {current_model(model)}; name that one"
            )
        elif (instead := retired_for(model)) is not None:
            yield f"{field}: {model} is retired: each turn with it fails; use {instead or 'another'}"
        elif not is_known_model(model):
            yield (
                f"{field}: neither the catalogue of {catalogue()} nor genai-prices knows {model}; if it is"
                " not misspelt, nothing is wrong, but its costs are not known"
            )


def _of_times(config: Mapping[str, Any]) -> Iterator[str]:
    heartbeat, cooldown = parse_duration(config["heartbeat"]), parse_duration(config["cooldown"])
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
