"""The documents, and the command lines in them: what a reader may type."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
        *(ROOT / name for name in ("exporter/README.md", "alerts/README.md", "iam/README.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What begins so in backticks is a command line; `curl` alone is the name of a program.
PROGRAMS = (
    *(
        "age",
        "amtool",
        "api",
        "aws",
        "botctl",
        "bot-exporter",
        "bot-remediator",
        "curl",
        "docker",
        "jq",
        "make",
    ),
    *("openssl", "pre-commit", "promtool", "python", "python3", "sed", "sqlite3", "ss", "sudo"),
    *("journalctl", "systemctl", "systemd-analyze"),
)
GENERATED = re.compile(r"<!-- (\w+): written by.*?<!-- /\1 -->", re.DOTALL)
INLINE = re.compile(rf"`((?:(?:\.venv/bin/)?(?:{'|'.join(PROGRAMS)})|\(umask) [^`]+)`")


@dataclass(frozen=True, slots=True)
class Command:
    """A command line and where it stands."""

    page: str  # the path from the repository's root
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def name_of(page: Path) -> str:
    """Return the page's path from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[Command]:
    """Return the command lines of a page, in its order: of its `sh` blocks, and in backticks."""
    text = page.read_text(encoding="utf-8")
    numbered: list[tuple[int, str]] = []
    for block in FENCE.finditer(text):
        if block[1] == "sh":
            numbered += [(block.start(2) + offset, command) for offset, command in split(block[2])]
    prose = GENERATED.sub(_blank, FENCE.sub(_blank, text))
    numbered += [(match.start(), " ".join(match[1].split())) for match in INLINE.finditer(prose)]
    return [
        Command(name_of(page), text.count("\n", 0, start) + 1, command) for start, command in sorted(numbered)
    ]


def _blank(match: re.Match[str]) -> str:
    """Return as many characters that say nothing, so that what follows keeps its place."""
    return re.sub(r"[^\n]", " ", match[0])


def split(block: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, command) of a block; a command goes on over lines while a quote or a `\\` is open."""
    start, pending = 0, ""
    position = 0
    for line in block.splitlines(keepends=True):
        if not pending:
            start = position
        pending += line
        position += len(line)
        if is_complete(pending):
            if shlex.split(pending, comments=True):
                yield start, pending.strip()
            pending = ""
    if pending:
        raise ValueError(f"a command without an end: {pending!r}")


def is_complete(command: str) -> bool:
    """Tell whether a shell would run it as it stands: no open quote, no `\\` at the end of the line."""
    if command.rstrip("\n").endswith("\\"):
        return False
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def without_comment(text: str) -> str:
    """Return a command line without the comment that ends it."""
    quote = ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and text[position - 1].isspace():
            return text[:position].rstrip()
    return text.strip()


def files(page: Path) -> dict[str, str]:
    """Return what the page has a reader write: blocks whose first line is `# NAME`, by that name."""
    text = page.read_text(encoding="utf-8")
    blocks = [block[2] for block in FENCE.finditer(text) if block[1] in ("yaml", "json", "sh", "python")]
    names = {block: re.match(r"# ([\w.-]+\.\w+)\n", block) for block in blocks}
    return {match[1]: block for block, match in names.items() if match}
