"""The documents name what exists: files, headings, packages, calls of the API."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.api.openapi import OPERATIONS
from remediator.recovery.gates import HOLDING
from tests.docs.pages import FENCE, PAGES, ROOT, name_of
from tests.test_import_directions import LEAVES, MAY_IMPORT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
README_BYTES = 8_000
RECIPE_FILES = 5
WIDTH = 120
# Paths in backticks that stand for many: `<channel>`, `<resource>`.
PLACEHOLDER = re.compile(r"<\w+>")


def links(page: Path) -> Iterator[str]:
    """Yield the page's relative links."""
    for match in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", match[1]):
            yield match[1]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Return the page's links that lead nowhere."""
    wrong = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        is_missing = anchor and target.suffix == ".md" and target.exists() and anchor not in anchors(target)
        if not target.exists() or is_missing:
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](#three) [c](page.md#one-two) [d](none.md) [e](https://x.y/z)\n"
    )
    assert broken(page) == ["#three", "none.md"]


def test_the_readme_fits_on_a_screen_or_two() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_every_call_that_a_page_names_is_one_of_the_apis() -> None:
    paths = {(operation.method, re.sub(r"{\w+}", "*", operation.path)) for operation in OPERATIONS}
    named = re.compile(r"\b(GET|POST|PUT|DELETE)\s+(?:\$R)?(/[\w/{}*….-]*\w}?)")
    theirs = {"/mesh", "/ready", "/probe", "/-/reload", "/openapi.json"}  # bots', the exporter's, and its own
    unknown = []
    for page in PAGES:
        for method, path in named.findall(page.read_text(encoding="utf-8")):
            pattern = re.sub(r"{\w+}|\bNAME\b|…", "*", path)
            if path not in theirs and not any(fits(pattern, known) for m, known in paths if m == method):
                unknown.append(f"{name_of(page)}: {method} {path}")
    assert unknown == []


def fits(path: str, known: str) -> bool:
    """Tell whether a path with `*` for what varies is a known one; a name stands for what varies, too."""
    parts, others = path.split("/"), known.split("/")
    return len(parts) == len(others) and all(b in (a, "*") for a, b in zip(parts, others, strict=True))


def remediator_rows() -> dict[str, set[str]]:
    """Return the rows of MAY_IMPORT for the remediator's packages: package to the packages it may import."""
    prefix = "remediator."
    return {
        package.removeprefix(prefix): {
            name.removeprefix(prefix) for name in allowed if name.startswith(prefix) and name not in LEAVES
        }
        for package, allowed in MAY_IMPORT.items()
        if package.startswith(prefix) and package not in LEAVES
    }


def messages(page: Path) -> list[str]:
    """Return what a page quotes in bold as a message of ours; `…` stands for what varies."""
    return re.findall(r'^\*\*[^"*]*"([^"]+)"', page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_messages_that_troubleshooting_quotes_are_the_codes() -> None:
    paths = [
        path for folder in ("remediator", "exporter", "botctl") for path in (ROOT / folder).rglob("*.py")
    ]
    paths.append(ROOT / "remediator/provisioning/instance/bot-files")
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    joined = re.sub(r"\"\s*\n\s*f?\"", "", source)  # a string that goes on in the next line
    quoted = messages(ROOT / "docs/troubleshooting.md")
    pieces = [piece.strip(" .;:") for message in quoted for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in joined] == []
    assert len(quoted) > 10


def architecture_rows() -> dict[str, set[str]]:
    """Return the rows of docs/architecture.md's table of the remediator's packages, in its order."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("### Inside the remediator", 1)[1].split("\n#", 1)[0]
    rows: dict[str, set[str]] = {}
    for names, imports in re.findall(r"^\| (`.+?) \| .+? \| (.+?) \|$", section, re.MULTILINE):
        above = set(rows) if "all of the above" in imports else set()
        (package,) = re.findall(r"`(\w+)`", names)
        rows[package] = above | set(re.findall(r"`(\w+)`", imports))
    return rows


def test_the_architectures_table_is_what_the_imports_are_held_to() -> None:
    assert architecture_rows() == remediator_rows()


def test_what_a_package_may_import_stands_above_it_in_the_table() -> None:
    above: set[str] = set()
    for package, imports in architecture_rows().items():
        assert imports <= above, package
        above.add(package)


def recipes() -> dict[str, str]:
    """Return CONTRIBUTING's recipes by what they change; each begins with the change in bold."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Five changes", 1)[1].split("\nMore of the kind", 1)[0]
    parts = re.split(r"^\*\*(.+?)\*\*", section, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def paths_in(text: str) -> list[str]:
    """Return what in backticks is a path of this repository: it has a slash, or ends as a file does."""
    spans = re.findall(r"`([^`\s]+)`", text)
    return [
        span for span in spans if re.fullmatch(r"[\w.<>*-]+(/[\w.<>*-]*)+|[\w-]+\.(md|py|yaml|toml)", span)
    ]


def test_every_path_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    missing = [path for path in paths_in(text) if not any(ROOT.glob(PLACEHOLDER.sub("*", path).rstrip("/")))]
    assert missing == []
    assert len(paths_in(text)) > 20


FOLDERS = "alerts|botctl|dashboards|docs|examples|exporter|iam|remediator|sandbox|scripts|templates|tests"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_of_ours_that_a_page_names_exists(page: Path) -> None:
    paths = [path for path in paths_in(page.read_text(encoding="utf-8")) if re.match(rf"({FOLDERS})/", path)]
    assert [path for path in paths if not any(ROOT.glob(PLACEHOLDER.sub("*", path).rstrip("/")))] == []


@pytest.mark.parametrize("change", recipes())
def test_a_recipe_of_contributing_touches_few_files(change: str) -> None:
    assert 2 <= len(set(paths_in(recipes()[change]))) <= RECIPE_FILES


GATES = (ROOT / "remediator/recovery/gates.py").read_text(encoding="utf-8")
STOPPING = set(re.findall(r'"(\w+)", Effect\.(?:hold|escalate)', GATES))
"""Gates that a person has to do something about: they hold a run back, or end it with a bot that is ill."""


def section(page: str, heading: str) -> str:
    """Return the text under a heading, up to the next."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.split(r"^#", text.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_each_gate_that_can_hold_a_run_is_counted_from_zero() -> None:
    assert set(HOLDING) == set(re.findall(r'"(\w+)", Effect\.hold', GATES))


def test_what_a_person_does_about_each_gate_stands_where_the_recipe_says() -> None:
    table = section("docs/troubleshooting.md", "Deployments and recoveries")
    rows = re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == STOPPING
    runbook = section("alerts/README.md", "BotRemediationBlocked")
    assert set(HOLDING) <= set(re.findall(r"`(\w+)`", runbook))
    assert {"docs/troubleshooting.md", "alerts/README.md"} <= set(paths_in(recipes()["A gate"]))


@pytest.mark.parametrize(
    ("change", "name", "package"),
    [
        ("A gate", "silenced", "recovery"),
        ("A gate", "dependency", "recovery"),
        ("A notification channel", "telegram", "notifications"),
    ],
)
def test_what_is_there_already_is_named_in_no_module_but_those_of_the_recipe(
    change: str, name: str, package: str
) -> None:
    """One more that is named elsewhere would be a file more to touch."""
    of_recipe = {path.replace("<channel>", name) for path in paths_in(recipes()[change])}
    root = ROOT / "remediator"
    modules = [*root.glob("*.py"), *(root / package).glob("*.py")]
    naming = {module for module in modules if f'"{name}"' in module.read_text(encoding="utf-8")}
    assert naming
    assert {str(module.relative_to(ROOT)) for module in naming} <= of_recipe


def test_there_are_five_recipes() -> None:
    assert len(recipes()) == 5


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_of_prose_are_wrapped(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    long = [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith("|")]
    assert [line for line in long if " " in line.strip() and not re.match(r"^\W*!?\[", line)] == []
