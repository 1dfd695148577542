"""The files of a bot type: what stands in the folder beside its YAML, as one archive named by its hash. Pure,
but for `read_files`.

    NAME.yaml
    NAME/workspace/…                            what its bots find in their workspace: SOUL.md, AGENTS.md
    NAME/skills/SKILL/SKILL.md, …               a skill each
    NAME/plugins/PLUGIN/openclaw.plugin.json, … a plugin each, named as its `id`
"""

import hashlib
import io
import json
import re
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_FILES: Final = 100
MAX_BYTES: Final = 1024**2  # of all files together
MANIFESTS: Final = {"workspace": "", "skills": "SKILL.md", "plugins": "openclaw.plugin.json"}
BUILT_IN: Final = "bot-bridge"  # the plugin that every bot has
PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")

# What looks like a secret: an archive is kept for good, and every bot may read it.
SECRET_NAME: Final = re.compile(
    r"(^|.*[._-])(secrets?|credentials?|passwords?)([._-].*|$)|.*\.(pem|key|p12|pfx|jks|kdbx)$"
    r"|id_(rsa|dsa|ecdsa|ed25519)$",
    re.I,
)
SECRET_CONTENT: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY"
    rb"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    rb"|\bsk-(ant-|proj-)?[A-Za-z0-9_-]{32,}"
    rb"|\bgh[opsu]_[A-Za-z0-9]{36}"
    rb"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    rb"|\b\d{8,10}:[A-Za-z0-9_-]{35}\b"  # a Telegram bot's
)
_GZIP_HEADER: Final = bytes.fromhex("1f8b08000000000002ff")  # no name, no time, no system


class FilesError(ValueError):
    """A file of a bot type cannot be used. Names it, and never its content."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name, self.problem = name, problem


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a bot type."""

    names: Mapping[str, str]  # path → SHA-256 of its content
    archive: bytes  # .tar.gz

    @property
    def sha256(self) -> str:
        """Return the archive's hash, which is its name wherever it is kept."""
        return hashlib.sha256(self.archive).hexdigest()


def read_files(folder: Path) -> Files | None:
    """Read the folder beside a bot type's YAML; None where there is none. Raises FilesError."""
    contents: dict[str, bytes] = {}
    left = MAX_BYTES
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not _is_file(folder, path, name):
            continue
        _check_name(name)
        if len(contents) == MAX_FILES:
            raise FilesError(name, f"is one file too many; a bot type may have {MAX_FILES}")
        with path.open("rb") as file:
            content = file.read(left + 1)
        left -= len(content)
        if left < 0:
            raise FilesError(name, f"is too much; all files together may have {MAX_BYTES} bytes")
        if SECRET_CONTENT.search(content):
            raise FilesError(name, "holds what looks like a secret; those go to SSM (docs/instances.md)")
        contents[name] = content
    _check_parts(contents)
    return packed(contents) if contents else None


def _is_file(folder: Path, path: Path, name: str) -> bool:
    """Return whether it is a file, as which a link to one in the folder counts, and no folder."""
    if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(folder.resolve())):
        raise FilesError(name, "is a link to no file of this folder; put the file itself there")
    if path.is_dir():
        return False
    if not path.is_file():
        raise FilesError(name, "is neither a file nor a folder")
    return True


def _check_name(name: str) -> None:
    kind, *parts = name.split("/")
    if kind not in MANIFESTS or not parts:
        raise FilesError(name, f"is in none of {', '.join(f'{kind}/' for kind in MANIFESTS)}")
    for part in parts:
        if not PART.fullmatch(part):
            raise FilesError(
                name, f"{part[:100]!r} may have a-z, A-Z, 0-9, _, . and -, and not begin with . or -"
            )
    if len(name) > 200:
        raise FilesError(name, "is longer than 200 characters")
    if SECRET_NAME.fullmatch(parts[-1]):
        raise FilesError(name, "is named like a secret; those go to SSM (docs/instances.md)")


def _check_parts(contents: Mapping[str, bytes]) -> None:
    """See that each skill and each plugin has the file by which OpenClaw knows it."""
    parts = {tuple(name.split("/")[:2]) for name in contents if MANIFESTS[name.partition("/")[0]]}
    for kind, part in sorted(parts):
        name = f"{kind}/{part}/{MANIFESTS[kind]}"
        if name not in contents:
            raise FilesError(f"{kind}/{part}", f"must be a folder with {MANIFESTS[kind]}")
        if kind == "plugins":
            try:
                plugin = json.loads(contents[name])["id"]
            except (ValueError, KeyError, TypeError):
                plugin = None
            if plugin != part or part == BUILT_IN:
                raise FilesError(name, f"its id must be {part!r}, as its folder, and not {BUILT_IN!r}")


def packed(contents: Mapping[str, bytes]) -> Files:
    """Pack the files: the same bytes for the same files, wherever and whenever."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in sorted(contents.items()):
            info = tarfile.TarInfo(name)  # of user 0, at time 0
            info.size, info.mode = len(content), 0o755 if content.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(content))
    names = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
    return Files(names, _gzipped(buffer.getvalue()))


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Return the files of an archive that `packed` made."""
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for info in tar:
            if (file := tar.extractfile(info)) is not None:
                contents[info.name] = file.read()
    return contents


def _gzipped(content: bytes) -> bytes:
    """Return the content gzipped. The header of Python's own differs from release to release."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(content) + deflate.flush()
    return _GZIP_HEADER + body + struct.pack("<LL", zlib.crc32(content), len(content))
