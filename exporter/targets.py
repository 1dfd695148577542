"""Targets in Prometheus's service-discovery format: strict, and every fault named with its place.

The format is that of file_sd and http_sd: a list of groups, each `{targets: ["host:port"], labels: {…}}`.
"""

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from sys import intern
from types import MappingProxyType
from urllib.parse import urlsplit

from exporter.durations import parse_duration

_BOT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?):([0-9]{1,5})")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_PATH = re.compile(r"/[!-~]*")  # printable ASCII without spaces: it goes into a request line as it is
_LONGEST_VALUE = 512
SHORTEST_INTERVAL = 0.1  # seconds

# Prometheus's own, which a generator may write for other readers of the same list.
_FOREIGN = ("__meta_", "__param_", "__tmp_", "__scrape_", "__metrics_path__")


@dataclass(frozen=True, slots=True)
class Target:
    """One bot and where to ask how it is."""

    bot: str
    address: str
    scheme: str = "http"
    health_path: str = "/health"
    mesh_path: str = "/mesh"
    template: str = ""
    environment: str = ""
    instance_id: str = ""
    interval: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def health_url(self) -> str:
        return f"{self.scheme}://{self.address}{self.health_path}"

    @property
    def mesh_url(self) -> str:
        """`mesh_path` may be an absolute URL, where the mesh listens on another port."""
        if self.mesh_path.startswith("/"):
            return f"{self.scheme}://{self.address}{self.mesh_path}"
        return self.mesh_path


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a target, or a whole source, was refused, and what to do about it."""

    place: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}; {self.remedy}"


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

    def __init__(self, where: str, why: str, remedy: str) -> None:
        super().__init__(why)
        self.where, self.why, self.remedy = where, why, remedy


def parse_groups(document: object, origin: str) -> Parsed:
    """Targets of a decoded file_sd or http_sd document; `origin` is its file or URL, for messages."""
    if not isinstance(document, list):
        what = "it is empty" if document is None else f"it is a {type(document).__name__}, not a list"
        return Parsed(problems=(Problem(origin, what, "write a list of groups; [] means no bots"),))
    return parse_each(document, origin)


def parse_each(groups: Iterable[object], origin: str) -> Parsed:
    """As `parse_groups`, for groups that come one by one."""
    found: dict[str, tuple[Target, int]] = {}
    problems: list[Problem] = []
    for index, group in enumerate(groups):
        try:
            for target in _group(group):
                if target.bot in found:
                    raise _duplicate(target.bot, _place(origin, found[target.bot][1]))
                found[target.bot] = target, index
        except _RefusedError as refused:
            problems.append(_problem(_place(origin, index), refused))
    targets, indices = zip(*found.values(), strict=True) if found else ((), ())
    return Parsed(tuple(targets), array("L", indices), origin, tuple(problems))


def merge(sources: Iterable[Parsed]) -> Parsed:
    """All sources as one list; a bot listed by two of them is kept where it came first."""
    bots: dict[str, tuple[Target, Parsed, int]] = {}
    problems: list[Problem] = []
    for source in sources:
        problems.extend(source.problems)
        for target, index in zip(source.targets, source.groups, strict=True):
            if (first := bots.get(target.bot)) is None:
                bots[target.bot] = target, source, index
            else:
                refused = _duplicate(target.bot, _place(first[1].origin, first[2]))
                problems.append(_problem(_place(source.origin, index), refused))
    return Parsed(tuple(target for target, _, _ in bots.values()), problems=tuple(problems))


def _place(origin: str, index: int) -> str:
    return f"{origin}: group {index}"


def _duplicate(bot: str, first: str) -> _RefusedError:
    why = f'"{bot}" is already at {first}'
    return _RefusedError("label bot", why, "give each bot one name and list it once")


def _problem(place: str, refused: _RefusedError) -> Problem:
    return Problem(f"{place}: {refused.where}" if refused.where else place, refused.why, refused.remedy)


def _group(group: object) -> list[Target]:
    if not isinstance(group, dict):
        raise _RefusedError(
            "", f"is a {type(group).__name__}", "write {targets: [host:port], labels: {bot: …}}"
        )
    unknown = [str(key) for key in group if key not in ("targets", "labels")]
    if unknown:
        raise _RefusedError(f"key {unknown[0]}", "is not known", "a group has targets and labels")
    addresses = group.get("targets")
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
            raise _RefusedError(f"label {name}", "is no label name", "use letters, digits and _")
        if not isinstance(value, str):
            raise _RefusedError(f"label {name}", f"is a {type(value).__name__}", f'quote it: "{value}"')
        if len(value) > _LONGEST_VALUE:
            raise _RefusedError(f"label {name}", f"has {len(value)} characters", f"at most {_LONGEST_VALUE}")
        if not value.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise _RefusedError(f"label {name}", "is not valid Unicode", "write it in UTF-8")
    return labels


@lru_cache(maxsize=1024)  # all bots have the same few
def _is_label_name(name: str) -> bool:
    return _LABEL_NAME.fullmatch(name) is not None


def _address(address: object) -> str:
    match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if not isinstance(address, str) or match is None or not 0 < int(match[1]) < 65536:
        raise _RefusedError(
            "targets", f"{address!r} is no address", 'write "host:port", without scheme and path'
        )
    return address


def _target(address: str, labels: dict[str, str]) -> Target:
    rest = dict(labels)
    bot = rest.pop("bot", "")
    if not _BOT.fullmatch(bot):
        why = f'"{bot}" is no bot name' if bot else "is missing"
        raise _RefusedError("label bot", why, "use a-z, 0-9 and -, at most 63 characters")
    scheme = rest.pop("__scheme__", "http")
    if scheme not in ("http", "https"):
        raise _RefusedError("label __scheme__", f'is "{scheme}"', "use http or https")
    interval = rest.pop("__probe_interval__", None)
    target = Target(
        bot=bot,
        address=address,
        scheme=scheme,
        health_path=_path("__health_path__", rest.pop("__health_path__", "/health")),
        mesh_path=_path("__mesh_path__", rest.pop("__mesh_path__", "/mesh"), absolute=True),
        template=intern(rest.pop("template", "")),
        environment=intern(rest.pop("environment", "")),
        instance_id=rest.pop("instance_id", ""),
        interval=None if interval is None else _interval(interval),
        labels={name: value for name, value in rest.items() if not name.startswith("__")} or _NO_LABELS,
    )
    for name in rest:
        if name.startswith("__") and not name.startswith(_FOREIGN):
            raise _RefusedError(
                f"label {name}",
                "is not known",
                "use __scheme__, __health_path__, __mesh_path__ or __probe_interval__",
            )
    return target


def _path(label: str, value: str, *, absolute: bool = False) -> str:
    if _PATH.fullmatch(value):
        return value
    if absolute and _absolute(value):
        return value
    remedy = "begin it with /" + (", or write a whole http:// or https:// URL" if absolute else "")
    raise _RefusedError(f"label {label}", f'"{value}" is no path', remedy)


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
