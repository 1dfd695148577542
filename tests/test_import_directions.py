"""Who may import whom: the exporter sees, the remediator acts, and neither knows the sandbox."""

import ast
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("templates", "exporter", "remediator", "botctl", "dashboards", "sandbox", "tests")

MAY_IMPORT = {
    "templates": ("templates",),
    "exporter": ("exporter",),
    "botctl": ("botctl",),  # it talks to the HTTP API and nothing else
    "remediator": (
        "remediator",
        "templates",
        "exporter.targets",
        "exporter.probe",
        "exporter.score",
        "exporter.metrics",
    ),
    "dashboards": ("dashboards", "exporter.metrics", "remediator.metrics"),
}


def imports(source: str, package: str) -> Iterator[str]:
    """Every module of ours that the source names, wherever in the file; `from x import y` may mean `x.y`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names]
            case ast.ImportFrom(module=module, names=names, level=level):
                base = resolve_name("." * level + (module or ""), package)
                found = [f"{base}.{alias.name}" for alias in names]
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                found = [name]
            case _:
                continue
        yield from (name for name in found if name.partition(".")[0] in ROOMS)


def violations(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)} imports {name}"
        for room, allowed in MAY_IMPORT.items()
        for path in sorted((root / room).rglob("*.py"))
        for name in imports(path.read_text(), ".".join(path.relative_to(root).parent.parts))
        if not any(name == module or name.startswith(f"{module}.") for module in allowed)
    ]


def test_imports_keep_to_the_house_table() -> None:
    assert violations(ROOT) == []


def test_every_room_of_the_table_is_there() -> None:
    assert all(list((ROOT / room).rglob("*.py")) for room in MAY_IMPORT)


@pytest.mark.parametrize(
    ("where", "line", "named"),
    [
        ("exporter/x.py", "import remediator.metrics", "remediator.metrics"),
        ("exporter/x.py", "from sandbox import cloud", "sandbox.cloud"),
        ("remediator/x.py", "from exporter import store", "exporter.store"),
        ("remediator/x.py", "import exporter", "exporter"),
        ("remediator/deep/x.py", "def f():\n    from exporter.server import serve", "exporter.server.serve"),
        ("remediator/x.py", "if TYPE_CHECKING:\n    from tests.fakes import y", "tests.fakes.y"),
        ("remediator/deep/x.py", "from ...exporter import server", None),  # Python refuses it by itself
        ("templates/x.py", "import importlib\nimportlib.import_module('exporter.score')", "exporter.score"),
        ("dashboards/x.py", "from exporter.score import Thresholds", "exporter.score.Thresholds"),
        ("botctl/x.py", "from remediator import views", "remediator.views"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, where: str, line: str, named: str | None) -> None:
    (tmp_path / where).parent.mkdir(parents=True)
    (tmp_path / where).write_text(line)
    if named is None:
        with pytest.raises(ImportError):
            violations(tmp_path)
    else:
        assert violations(tmp_path) == [f"{where} imports {named}"]


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("remediator/x.py", "from exporter import metrics, probe"),
        ("remediator/x.py", "from exporter.targets import Target\nimport templates"),
        ("remediator/deep/x.py", "from ..ladder import next_move\nfrom . import y"),
        ("dashboards/x.py", "from remediator import metrics"),
        ("exporter/x.py", "import exporters_of_others, aiohttp"),
    ],
)
def test_what_the_table_allows_passes(tmp_path: Path, where: str, line: str) -> None:
    (tmp_path / where).parent.mkdir(parents=True)
    (tmp_path / where).write_text(line)
    assert violations(tmp_path) == []
