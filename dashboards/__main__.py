"""Write the dashboards, or with --check tell whether the written ones are what the code makes."""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dashboards import bot, fleet, recoveries, watchers
from dashboards.adapter import render
from dashboards.house import Json

DASHBOARDS: Final[Mapping[str, Callable[[], Json]]] = {
    "fleet.json": fleet.build,
    "bot.json": bot.build,
    "recoveries.json": recoveries.build,
    "watchers.json": watchers.build,
}
GENERATED: Final = Path(__file__).with_name("generated")


def difference(folder: Path, wanted: Mapping[str, str]) -> str:
    """A unified diff from the folder's files to what they should be; empty where they agree."""
    names = sorted({path.name for path in folder.glob("*.json")} | set(wanted))
    lines: list[str] = []
    for name in names:
        path = folder / name
        now = path.read_text().splitlines(keepends=True) if path.exists() else []
        then = wanted.get(name, "").splitlines(keepends=True)
        lines += difflib.unified_diff(now, then, f"{path} (written)", f"{path} (from the code)")
    return "".join(lines)


def write(folder: Path, wanted: Mapping[str, str]) -> None:
    """Write all, and remove what is no dashboard any more."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 with a diff if files differ"
    )
    parser.add_argument(
        "--folder", type=Path, default=GENERATED, help="where the files are (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    wanted = {name: render(build()) for name, build in DASHBOARDS.items()}
    if options.check:
        text = difference(options.folder, wanted)
        sys.stdout.write(text)
        if text:
            print("dashboards: generated files differ; run `python -m dashboards`", file=sys.stderr)
        return 1 if text else 0
    write(options.folder, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
