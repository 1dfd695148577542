"""Write the tables of docs/settings.md and docs/api.md from the code. `--check`: 1 where they differ."""

import sys
from collections.abc import Callable
from pathlib import Path

from remediator.api.openapi import document
from remediator.settings import describe

DOCS = Path(__file__).parent.parent / "docs"


def settings_table() -> str:
    """Return the remediator's settings as a Markdown table: variable, default, meaning."""
    rows = "".join(
        f"| `{name}` | {f'`{default}`' if default else ''} | {meaning} |\n"
        for name, default, meaning in describe()
    )
    return "| variable | default | what it is |\n| --- | --- | --- |\n" + rows


def calls_table() -> str:
    """Return the API's calls as a Markdown table, by path: method and path, token, meaning."""
    rows = "".join(
        f"| `{method.upper()} {path}` | {yes_or_no(call['security'])} | {one_line(call['summary'])} |\n"
        for path, calls in sorted(document()["paths"].items())
        for method, call in sorted(calls.items())
    )
    return "| call | token | what it does |\n| --- | --- | --- |\n" + rows


def yes_or_no(value: object) -> str:
    """Return `yes` where the value is something."""
    return "yes" if value else "no"


def one_line(summary: str) -> str:
    """Return the first paragraph of a docstring as a line of a table."""
    return " ".join(summary.split("\n\n", 1)[0].split()).replace("|", "\\|")


TABLES: dict[str, Callable[[], str]] = {"settings": settings_table, "api": calls_table}


def marks(name: str) -> tuple[str, str]:
    """Return the lines between which a page has its table."""
    return f"<!-- {name}: written by `make generate` -->\n", f"<!-- /{name} -->"


def with_table(text: str, name: str, table: str) -> str:
    """Return the page with the table put between its marks."""
    begin, end = marks(name)
    head, rest = text.split(begin)
    return head + begin + table + end + rest.split(end, 1)[1]


def main() -> int:
    """Write the pages, or compare them; return the exit code."""
    is_check, code = "--check" in sys.argv[1:], 0
    for name, table in TABLES.items():
        page = DOCS / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        new = with_table(text, name, table())
        if new == text:
            continue
        if is_check:
            print(f"docs/{page.name}: the table differs from the code; run make generate", file=sys.stderr)
            code = 1
        else:
            page.write_text(new, encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
