"""The house style that a reader of the syntax can hold: nouns, verbs, and what is not said twice."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("remediator", "exporter", "sandbox", "dashboards", "templates", "scripts", "botctl")

DULL = {"asked", "given", "heard", "kept", "said", "seen", "shown", "told"}  # participles that name nothing
# What a docstring of a function begins with that says what something is, and not what the function does.
NO_VERB = {
    *("a", "all", "an", "as", "at", "by", "each", "every", "for", "from", "how", "in", "it", "its", "of"),
    *("on", "one", "that", "the", "these", "this", "those", "to", "true", "false", "what", "when", "where"),
    *("whether", "which", "who", "whose", "why", "with"),
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def dull_names(source: str) -> list[str]:
    """Return the dull names of variables and parameters."""
    nodes = [*ast.walk(ast.parse(source))]
    stored = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return sorted(DULL & {*stored, *(node.arg for node in nodes if isinstance(node, ast.arg))})


def verbless(source: str) -> list[str]:
    """Return the functions whose docstring does not begin with a verb; a test's says more than its name."""
    found = []
    for function in functions(ast.parse(source)):
        words = (ast.get_docstring(function) or "").split()
        if words and words[0].strip("`,:.").lower() in NO_VERB and not is_command(function):
            found.append(function.name)
    return [name for name in found if not name.startswith("test_")]


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether it is a command of botctl, whose docstring is its help."""
    return any(re.search(r"\b(command|group)\b", ast.unparse(mark)) for mark in function.decorator_list)


def sources(*packages: str) -> dict[str, str]:
    paths = sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def test_locals_are_nouns() -> None:
    faults = {path: dull_names(source) for path, source in sources(*PACKAGES).items()}
    assert {path: names for path, names in faults.items() if names} == {}


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    faults = {path: verbless(source) for path, source in sources(*PACKAGES, "tests").items()}
    assert {path: names for path, names in faults.items() if names} == {}


def test_a_class_of_the_remediator_has_its_name_alone() -> None:
    names = [
        node.name
        for source in sources("remediator").values()
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_the_seconds_of_a_day_are_written_once_for_those_who_may_import_them() -> None:
    homes = [path for path, source in sources(*PACKAGES).items() if re.search(r"\b86_?400\b", source)]
    independent = {"botctl/options.py", "templates/schema.py"}  # they import nothing of ours
    assert set(homes) == {"remediator/timestamps.py", "exporter/durations.py"} | independent


@pytest.mark.parametrize(
    "line", ["told = 1", "for said in []: pass", "def f(kept): pass", "[x for seen in y]"]
)
def test_a_planted_participle_is_found(line: str) -> None:
    assert len(dull_names(line)) == 1


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [("The path.", True), ("Whether it is.", True), ("`True` where", True), ("Return the path.", False)],
)
def test_a_planted_docstring_without_a_verb_is_found(docstring: str, fault: bool) -> None:
    assert verbless(f'async def f():\n    """{docstring}"""') == ["f"] * fault
