"""Where targets come from: files and HTTP services in Prometheus's format, looked at again and again.

A source that cannot be read, or that has a bad target, changes nothing: its last good list stays. Only while
there is no good list yet are the good targets of a bad one taken: better to watch some bots than none.
"""

import asyncio
import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path

import aiohttp
import orjson
import yaml

from exporter.settings import Settings
from exporter.targets import Parsed, Problem, Target, merge, parse_each, parse_groups

_HTTP_TIMEOUT = 10
_LARGEST = 256 * 1024 * 1024
_DEEPEST = 16
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Loaded:
    """All sources together. `unread` are sources that gave no list; `invalid` are refused targets."""

    targets: tuple[Target, ...]
    invalid: tuple[Problem, ...]
    unread: tuple[Problem, ...]
    ready: bool  # every source has been read at least once

    @property
    def ok(self) -> bool:
        return not self.invalid and not self.unread


class _UnreadError(Exception):
    """A source that gave no list of groups; never leaves this module."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why, self.remedy = why, remedy


@dataclass(slots=True)
class _Source:
    """What one file or URL last said (its `digest`), how that was read, and the list in use."""

    digest: bytes = b""
    latest: Parsed | None = None
    good: Parsed | None = None
    problem: Problem | None = None

    def take(self, parsed: Parsed) -> None:
        self.latest, self.problem = parsed, None
        if not parsed.problems or self.good is None or self.good.problems:
            self.good = parsed


class Discovery:
    """Reads every source and says what is to be probed."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._sources: dict[str, _Source] = {}
        self._merged: tuple[tuple[Parsed, ...], Parsed] = (), Parsed()
        self._lock = asyncio.Lock()

    async def load(self) -> Loaded:
        """Look at every source now. What has not changed since is the same object."""
        async with self._lock:
            files = await asyncio.to_thread(self._find_files)
            places = [*files, *self._settings.urls]
            self._sources = {place: self._sources.get(place, _Source()) for place in places}
            await asyncio.gather(
                *(self._refresh(files[place], place, self._sources[place]) for place in files),
                *(self._refresh(None, url, self._sources[url]) for url in self._settings.urls),
            )
            return await asyncio.to_thread(self._merge)

    def _find_files(self) -> dict[str, Path]:
        """Files by name. What a glob no longer matches is gone; a file named outright must exist."""
        names: dict[str, Path] = {}
        for pattern in self._settings.files:
            found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
            names.update({name: Path(name) for name in found})
        return names

    async def _refresh(self, path: Path | None, place: str, source: _Source) -> None:
        try:
            if path is None:
                raw, is_json = await self._fetch(place), True
            elif await asyncio.to_thread(_digest, path) == source.digest:
                raw, is_json = None, False  # a large file is not taken into memory every refresh
            else:
                raw, is_json = await asyncio.to_thread(_read, path), path.suffix == ".json"
            if raw is not None and (digest := blake2b(raw).digest()) != source.digest:
                parsed = await asyncio.to_thread(_parse, raw, place, is_json, source.good)
                source.digest = digest
                source.take(parsed)
            source.problem = None
        except _UnreadError as error:
            source.problem = Problem(place, error.why, error.remedy)

    async def _fetch(self, url: str) -> bytes:
        headers = {"Accept": "application/json"}
        token_file = self._settings.url_token_file
        if token_file is not None:
            try:
                token = (await asyncio.to_thread(token_file.read_text)).strip()
            except (OSError, UnicodeDecodeError) as error:
                why = f"the token file {token_file} cannot be read: {_words(error)}"
                raise _UnreadError(why, "check --targets.url-token-file") from None
            headers["Authorization"] = f"Bearer {token}"
        limits = aiohttp.ClientTimeout(total=_HTTP_TIMEOUT)
        try:
            async with self._session.get(url, headers=headers, timeout=limits) as response:
                if response.status != 200:
                    remedy = "check the token" if response.status in (401, 403) else "check the service"
                    raise _UnreadError(f"answered {response.status}", remedy)
                return await _bounded(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _UnreadError(f"no answer: {_words(error)}", "check the service") from None

    def _merge(self) -> Loaded:
        sources = self._sources.values()
        good = tuple(source.good for source in sources if source.good)
        if good != self._merged[0]:
            self._merged = good, merge(replace(parsed, problems=()) for parsed in good)
        merged = self._merged[1]
        refused = tuple(problem for source in sources if source.latest for problem in source.latest.problems)
        return Loaded(
            targets=merged.targets,
            invalid=refused + merged.problems,
            unread=tuple(source.problem for source in sources if source.problem),
            ready=all(source.good is not None for source in sources),
        )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(1 << 20):
        body += chunk
        if len(body) > _LARGEST:
            raise _UnreadError(f"the list is larger than {_LARGEST} bytes", "split it over several services")
    return bytes(body)


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file_digest(file, blake2b).digest()
    except OSError as error:
        raise _unreadable(error) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> _UnreadError:
    return _UnreadError(f"cannot be read: {_words(error)}", "check the path and its permissions")


def _parse(raw: bytes, place: str, is_json: bool, before: Parsed | None) -> Parsed:
    """Targets in a document; _UnreadError if it is no list of groups, as when half of it is written.

    A target that is as it was `before` is the same object: not in memory twice, and quick to compare.
    """
    decode: Callable[[bytes], object] = orjson.loads if is_json else _load_yaml
    try:
        document = decode(raw)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if is_json else "YAML"
        raise _UnreadError(f"is no {kind}: {_words(error)}", "correct it; the last good list stays") from None
    if not isinstance(document, list):
        problem = parse_groups(document, place).problems[0]
        raise _UnreadError(problem.why, problem.remedy)
    parsed = parse_each(_used_up(document), place)
    known = {target.bot: target for target in before.targets} if before else {}
    same = (known.get(target.bot) for target in parsed.targets)
    targets = tuple(old if old == new else new for old, new in zip(same, parsed.targets, strict=True))
    return replace(parsed, targets=targets)


def _used_up(groups: list[object]) -> Iterator[object]:
    """Each group once, forgotten after its turn, so that document and targets are not both in memory."""
    for index, group in enumerate(groups):
        groups[index] = None
        yield group


def _load_yaml(raw: bytes) -> object:
    """The document; ValueError where it is nested deeper than any target list, which libyaml crashes on."""
    depth = 0
    for event in yaml.parse(raw, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}")
    return yaml.load(raw, Loader=_Loader)  # noqa: S506 - the safe loader, in C where it is built


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
