"""The sources of targets: files and HTTP services in Prometheus's format, read again and again.

A source that cannot be read, or has nothing good in it, changes nothing: its last good list stays. A bad
target is dropped and named, and takes no other along.
"""

import asyncio
import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path

import aiohttp
import orjson

from exporter.fleet.yaml_documents import load_yaml
from exporter.masking import masked, masked_url
from exporter.settings import Settings
from exporter.targets import Parsed, Problem, Target, merge, parse_each, parse_groups

_HTTP_TIMEOUT = 10
_LARGEST = 256 * 1024 * 1024
_REMEDIES = {
    401: "check --targets.url-token-file",
    403: "check --targets.url-token-file",
    421: "ask by an address, or by a name that the service allows (BOT_REMEDIATOR_ALLOWED_HOSTS)",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The targets of all sources. `unread` are sources that gave no list; `invalid` are refused targets."""

    targets: tuple[Target, ...]
    invalid: tuple[Problem, ...]
    unread: tuple[Problem, ...]
    ready: bool  # every source has been read at least once

    @property
    def ok(self) -> bool:
        return not self.invalid and not self.unread


class _UnreadError(Exception):
    """A source that gave no list of groups; never leaves this module."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


@dataclass(slots=True)
class _Source:
    """A file or URL: the digest of its last content, the latest list parsed from it, and the list in use."""

    digest: bytes = b""
    latest: Parsed | None = None
    good: Parsed | None = None
    problem: Problem | None = None

    def accept(self, parsed: Parsed) -> None:
        """Use the list, unless nothing in it is good and another is in use: what wrote it is broken."""
        self.latest, self.problem = parsed, None
        if parsed.targets or not parsed.problems or self.good is None:
            self.good = parsed


class Discovery:
    """Reads every source, and merges their targets."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._sources: dict[str, _Source] = {}
        self._merged: tuple[tuple[Parsed, ...], Parsed] = (), Parsed()
        self._lock = asyncio.Lock()

    async def load(self) -> Loaded:
        """Read every source now. A list that has not changed since is the same object."""
        async with self._lock:
            files = await asyncio.to_thread(self._find_files)
            origins = [*files, *self._settings.urls]
            self._sources = {origin: self._sources.get(origin, _Source()) for origin in origins}
            await asyncio.gather(
                *(self._refresh(files[origin], origin, self._sources[origin]) for origin in files),
                *(self._refresh(None, url, self._sources[url]) for url in self._settings.urls),
            )
            return await asyncio.to_thread(self._merge)

    def _find_files(self) -> dict[str, Path]:
        """Find the files by name. What a glob no longer matches is gone; a file named outright must exist."""
        names: dict[str, Path] = {}
        for pattern in self._settings.files:
            matches = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
            names.update({name: Path(name) for name in matches})
        return names

    async def _refresh(self, path: Path | None, origin: str, source: _Source) -> None:
        location = masked_url(origin) if path is None else origin
        try:
            if path is None:
                raw, is_json = await self._fetch(origin), True
            elif await asyncio.to_thread(_digest, path) == source.digest:
                raw, is_json = None, False  # a large file is not taken into memory every refresh
            else:
                raw, is_json = await asyncio.to_thread(_read, path), path.suffix.lower() == ".json"
            if raw is not None and (digest := blake2b(raw).digest()) != source.digest:
                parsed = await asyncio.to_thread(_parse, raw, location, is_json, source.good)
                source.digest = digest
                source.accept(parsed)
            source.problem = None
        except _UnreadError as error:
            source.problem = Problem(location, error.reason, error.remedy)

    async def _fetch(self, url: str) -> bytes:
        headers = {"Accept": "application/json"}
        token_file = self._settings.url_token_file
        if token_file is not None:
            try:
                token = (await asyncio.to_thread(token_file.read_text)).strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = f"the token file {token_file} cannot be read: {_message(error)}"
                raise _UnreadError(reason, "check --targets.url-token-file") from None
            headers["Authorization"] = f"Bearer {token}"
        limits = aiohttp.ClientTimeout(total=_HTTP_TIMEOUT)
        try:
            async with self._session.get(url, headers=headers, timeout=limits) as response:
                if response.status != 200:
                    remedy = _REMEDIES.get(response.status, "check the service")
                    raise _UnreadError(f"answered {response.status}", remedy)
                return await _bounded(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _UnreadError(f"no answer: {masked(_message(error), url)}", "check the service") from None

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
    return _UnreadError(f"cannot be read: {_message(error)}", "check the path and its permissions")


def _parse(raw: bytes, origin: str, is_json: bool, before: Parsed | None) -> Parsed:
    """Parse a document; _UnreadError if it is no list of groups, as when half of it is written.

    A target that is as it was `before` is the same object: not in memory twice, and quick to compare.
    """
    decode: Callable[[bytes], object] = orjson.loads if is_json else load_yaml
    try:
        document = decode(raw)
    except ValueError as error:
        kind = "JSON" if is_json else "YAML"
        raise _UnreadError(
            f"is no {kind}: {_message(error)}", "correct it; the last good list stays"
        ) from None
    if not isinstance(document, list):
        problem = parse_groups(document, origin).problems[0]
        raise _UnreadError(problem.reason, problem.remedy)
    parsed = parse_each(_consume(document), origin)
    earlier = {target.bot: target for target in before.targets} if before else {}
    same = (earlier.get(target.bot) for target in parsed.targets)
    targets = tuple(old if old == new else new for old, new in zip(same, parsed.targets, strict=True))
    return replace(parsed, targets=targets)


def _consume(groups: list[object]) -> Iterator[object]:
    """Yield each group once and forget it, so that document and targets are not both in memory."""
    for index, group in enumerate(groups):
        groups[index] = None
        yield group


def _message(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
