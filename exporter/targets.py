"""Targets in Prometheus's service-discovery format: strict, and every fault named with its location.

The format is that of file_sd and http_sd: a list of groups, each `{targets: ["host:port"], labels: {…}}`.
"""

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from urllib.parse import urlsplit

from exporter.durations import parse_duration
from exporter.masking import masked_url

_BOT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?\.?):([0-9]{1,5})")
_PATH = re.compile(r"/[!-~]*")  # printable ASCII without spaces: it goes into a request line as it is
_LONGEST_VALUE = 512
SHORTEST_INTERVAL = 0.1  # seconds
NO_MESH = "none"  # for a path: the bot has no mesh, so that none is asked

# Of the labels that begin with __, ours. The others are Prometheus's, or those of another reader of the list.
_OURS = ("__scheme__", "__health_path__", "__mesh_path__", "__probe_interval__", "__expect__")


@dataclass(frozen=True, slots=True)
class Target:
    """A bot and the endpoints where it is probed."""

    bot: str
    address: str
    scheme: str = "http"
    health_path: str = "/health"
    mesh_path: str = "/mesh"
    template: str = ""
    environment: str = ""
    instance_id: str = ""
    interval: float | None = None
    expects_json: bool = False
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def health_url(self) -> str:
        return f"{self.scheme}://{self.address}{self.health_path}"

    @property
    def mesh_url(self) -> str | None:
        """Return the URL of the mesh, None without one.

        `mesh_path` may be absolute, where the mesh listens on another port.
        """
        if self.mesh_path == NO_MESH:
            return None
        if self.mesh_path.startswith("/"):
            return f"{self.scheme}://{self.address}{self.mesh_path}"
        return self.mesh_path


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why a target, or a whole source, was refused, and the remedy."""

    location: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The good targets of a source, the group of `origin` that has each, and the refused ones."""

    targets: tuple[Target, ...] = ()
    groups: Sequence[int] = ()
    origin: str = ""
    problems: tuple[Problem, ...] = ()


_NO_LABELS: Mapping[str, str] = MappingProxyType({})  # one for all: a fleet is large


class _RefusedError(Exception):
    """A target or label that breaks the format; never leaves this module."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.field, self.reason, self.remedy = field, reason, remedy


def parse_groups(document: object, origin: str) -> Parsed:
    """Parse a decoded file_sd or http_sd document; `origin` is its file or URL, for messages."""
    if not isinstance(document, list):
        reason = "it is empty" if document is None else f"it is a {type(document).__name__}, not a list"
        return Parsed(problems=(Problem(origin, reason, "write a list of groups; [] means no bots"),))
    return parse_each(document, origin)


def parse_each(groups: Iterable[object], origin: str) -> Parsed:
    """Parse groups that come one by one."""
    by_bot: dict[str, tuple[Target, int]] = {}
    problems: list[Problem] = []
    for index, group in enumerate(groups):
        try:
            for target in _group(group):
                if target.bot in by_bot:
                    raise _duplicate(target.bot, _location(origin, by_bot[target.bot][1]))
                by_bot[target.bot] = target, index
        except _RefusedError as refused:
            problems.append(_problem(_location(origin, index), refused))
    targets, indices = zip(*by_bot.values(), strict=True) if by_bot else ((), ())
    return Parsed(tuple(targets), array("L", indices), origin, tuple(problems))


def merge(sources: Iterable[Parsed]) -> Parsed:
    """Merge all sources into one list; a bot listed by two of them is kept where it came first."""
    bots: dict[str, tuple[Target, Parsed, int]] = {}
    problems: list[Problem] = []
    for source in sources:
        problems.extend(source.problems)
        for target, index in zip(source.targets, source.groups, strict=True):
            if (first := bots.get(target.bot)) is None:
                bots[target.bot] = target, source, index
            else:
                refused = _duplicate(target.bot, _location(first[1].origin, first[2]))
                problems.append(_problem(_location(source.origin, index), refused))
    return Parsed(tuple(target for target, _, _ in bots.values()), problems=tuple(problems))


def _location(origin: str, index: int) -> str:
    return f"{origin}: group {index}"


def _duplicate(bot: str, first: str) -> _RefusedError:
    reason = f'"{bot}" is already at {first}'
    return _RefusedError("label bot", reason, "give each bot one name and list it once")


def _problem(location: str, refused: _RefusedError) -> Problem:
    location = f"{location}: {refused.field}" if refused.field else location
    return Problem(location, refused.reason, refused.remedy)


def _group(group: object) -> list[Target]:
    if not isinstance(group, dict):
        raise _RefusedError(
            "", f"is a {type(group).__name__}", "write {targets: [host:port], labels: {bot: …}}"
        )
    unknown = [str(key) for key in group if key not in ("targets", "labels")]
    if unknown:
        raise _RefusedError(f"key {unknown[0]}", "is not known", "a group has targets and labels")
    addresses = group.get("targets", "")
    if addresses is None:
        return []
    if not isinstance(addresses, list):
        raise _RefusedError("targets", "is not a list", 'write targets: ["host:port"]')
    labels = _labels(group.get("labels"))
    if len(addresses) > 1:
        raise _RefusedError(
            "targets",
            f"has {len(addresses)} addresses for one bot label",
            "write one group for each bot",
        )
    return [_target(_address(address), labels) for address in addresses]


def _labels(labels: object) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise _RefusedError("labels", f"is a {type(labels).__name__}", "write labels: {bot: NAME}")
    for name, value in labels.items():
        if not isinstance(name, str) or not _is_label_name(name):
            raise _RefusedError(f"label {name!a:.80}", "is no label name", "use any text in UTF-8")
        if value is None:
            continue
        if not isinstance(value, str):
            raise _RefusedError(f"label {name}", f"is a {type(value).__name__}", f'quote it: "{value}"')
        if len(value) > _LONGEST_VALUE and (name in _OURS or not name.startswith("__")):
            raise _RefusedError(f"label {name}", f"has {len(value)} characters", f"at most {_LONGEST_VALUE}")
        if not value.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise _RefusedError(f"label {name}", "is not valid Unicode", "write it in UTF-8")
    return {name: value for name, value in labels.items() if value}  # empty is as absent


@lru_cache(maxsize=1024)  # all bots have the same few
def _is_label_name(name: str) -> bool:
    """Return whether it is one as of Prometheus 3: any text."""
    return 0 < len(name) <= _LONGEST_VALUE and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in name)


@lru_cache(maxsize=1024)
def _meant(name: str) -> str:
    """Return the label of ours that a label that begins with __ was meant to be; empty if it is another's."""
    if name.startswith(("__meta_", "__param_", "__tmp_", "__scrape_", "__metrics_path__")):
        return ""
    return next(iter(get_close_matches(name, _OURS, 1, 0.75)), "")


def _address(address: object) -> str:
    match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if not isinstance(address, str) or match is None or not 0 < int(match[1]) < 65536:
        raise _RefusedError(
            "targets", f"{_shown(address)!r} is no address", 'write "host:port", without scheme and path'
        )
    return address


def _shown(value: object) -> object:
    """Return a refused value as it may stand in a log."""
    return masked_url(value) if isinstance(value, str) else value


def _target(address: str, labels: dict[str, str]) -> Target:
    remaining = dict(labels)
    bot = remaining.pop("bot", "")
    if not _BOT.fullmatch(bot):
        reason = f'"{bot:.80}" is no bot name' if bot else "is missing"
        raise _RefusedError("label bot", reason, "use a-z, 0-9 and -, at most 63 characters")
    scheme = remaining.pop("__scheme__", "http")
    if scheme not in ("http", "https"):
        raise _RefusedError("label __scheme__", f'is "{scheme}"', "use http or https")
    interval = remaining.pop("__probe_interval__", None)
    expected = remaining.pop("__expect__", "any")
    if expected not in ("any", "json"):
        raise _RefusedError("label __expect__", f'is "{expected}"', "use json, or any for whatever is a 200")
    target = Target(
        bot=bot,
        address=address,
        scheme=scheme,
        health_path=_path("__health_path__", remaining.pop("__health_path__", "/health")),
        mesh_path=_path("__mesh_path__", remaining.pop("__mesh_path__", "/mesh"), mesh=True),
        template=intern(remaining.pop("template", "")),
        environment=intern(remaining.pop("environment", "")),
        instance_id=remaining.pop("instance_id", ""),
        interval=None if interval is None else _interval(interval),
        expects_json=expected == "json",
        labels={name: value for name, value in remaining.items() if not name.startswith("__")} or _NO_LABELS,
    )
    for name in remaining:
        if name.startswith("__") and (meant := _meant(name)):
            raise _RefusedError(f"label {name}", "is not known", f"did you mean {meant}?")
    return target


def _path(label: str, value: str, *, mesh: bool = False) -> str:
    if _PATH.fullmatch(value):
        return value
    if mesh and (value == NO_MESH or _absolute(value)):
        return value
    whole = f", write a whole http:// or https:// URL, or {NO_MESH} where there is no mesh"
    remedy = "begin it with /" + (whole if mesh else "")
    raise _RefusedError(f"label {label}", f'"{_shown(value)}" is no path', remedy)


def _absolute(value: str) -> bool:
    try:
        url = urlsplit(value)
        address = url.netloc if url.port else f"{url.netloc}:1"
    except ValueError:
        return False
    sound = url.scheme in ("http", "https") and _ADDRESS.fullmatch(address) is not None
    return sound and _PATH.fullmatch("/" + value) is not None


def _interval(value: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise _RefusedError("label __probe_interval__", str(error), "write it as 60s or 5m") from None
    if seconds < SHORTEST_INTERVAL:
        raise _RefusedError("label __probe_interval__", f"{value} is too short", "use at least 100ms")
    return seconds
