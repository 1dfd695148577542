"""Write the dashboards and the error budget's rules, or with --check tell whether the written ones differ."""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from dashboards import bot, cost, deployments, error_budget, fleet, meta_monitoring, recoveries
from dashboards.adapter import render
from dashboards.style import Json

DASHBOARDS: Final[Mapping[str, Callable[[], Json]]] = {
    "fleet.json": fleet.build,
    "bot.json": bot.build,
    "recoveries.json": recoveries.build,
    "changes.json": deployments.build,
    "cost.json": cost.build,
    "watchers.json": meta_monitoring.build,
}
GENERATED: Final = Path("dashboards", "generated")
RULES: Final = Path("alerts", "rules-budget.yml")
ROOT: Final = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Return the text of every generated file, by its path in the repository."""
    return {GENERATED / name: render(build()) for name, build in DASHBOARDS.items()} | {
        RULES: error_budget.rules()
    }


def left_over(root: Path, wanted: Mapping[Path, str]) -> set[Path]:
    """Return the files of dashboards that there are no longer."""
    return {path.relative_to(root) for path in (root / GENERATED).glob("*.json")} - set(wanted)


def difference(root: Path, wanted: Mapping[Path, str]) -> str:
    """Return a unified diff from the files on disk to what they should be; empty where they agree."""
    lines: list[str] = []
    for name in sorted(left_over(root, wanted) | set(wanted)):
        path = root / name
        now = path.read_text().splitlines(keepends=True) if path.exists() else []
        then = wanted.get(name, "").splitlines(keepends=True)
        lines += difflib.unified_diff(now, then, f"{name} (written)", f"{name} (from the code)")
    return "".join(lines)


def write(root: Path, wanted: Mapping[Path, str]) -> None:
    """Write the generated files, and remove those that are left over."""
    for name in left_over(root, wanted):
        (root / name).unlink()
    for name, text in wanted.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 with a diff if files differ"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository (default: %(default)s)")
    options = parser.parse_args(arguments)
    wanted = files()
    if options.check:
        text = difference(options.root, wanted)
        sys.stdout.write(text)
        if text:
            print("dashboards: generated files differ; run `python -m dashboards`", file=sys.stderr)
        return 1 if text else 0
    write(options.root, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
