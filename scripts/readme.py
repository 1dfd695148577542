"""Writes the remediator's settings into README.md, from the code. `--check` exits 1 where they differ."""

import sys
from pathlib import Path

from remediator.settings import describe

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- settings: written by `make generate` -->\n", "<!-- /settings -->"


def table() -> str:
    rows = "".join(
        f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |\n"
        for name, default, meaning in describe()
    )
    return "| variable | default | what it is |\n| --- | --- | --- |\n" + rows


def written(text: str) -> str:
    """README's text with the table put between its marks."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + table() + END + rest.split(END, 1)[1]


def main() -> int:
    text = README.read_text(encoding="utf-8")
    new = written(text)
    if "--check" in sys.argv[1:]:
        if new != text:
            print("README.md: the settings differ from the code; run make generate", file=sys.stderr)
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
