"""Who may import whom, inside and between the packages: the table of docs/architecture.md.

A package may import itself and what stands in its row. A module belongs to the longest name in the table
that it begins with, so `remediator.store.runs` is `remediator.store`'s. `tests` and `sandbox.simulator` may
import anything.
"""

import ast
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("templates", "exporter", "remediator", "botctl", "dashboards", "sandbox", "tests")


def below(package: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{package}.{name}" for name in names)


# The remediator's leaf modules: they import templates and the pure core of the exporter, and each other.
LEAVES = below(
    "remediator",
    *("errors", "logs", "metrics", "model", "modes", "periodic", "process_memory", "settings", "timestamps"),
)
OUTSIDE = ("templates", *below("exporter", "targets", "score", "metrics", "durations"))
FEATURES = below(
    "remediator",
    *("store", "aws", "monitoring", "notifications", "engine", "alerts", "configuration", "cost"),
    *("provisioning", "recovery", "rollouts", "scaling", "backup"),
)
CORE = below(  # of the exporter: without I/O, all but the settings and the logs
    "exporter",
    *("targets", "result", "score", "observation", "history", "schedule", "sharding", "durations"),
    *("metrics", "settings", "logs", "saying", "masking"),
)


def features(*names: str) -> tuple[str, ...]:
    return (*LEAVES, *OUTSIDE, *below("remediator", *names))


MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "templates": (),
    "exporter": CORE,
    "exporter.probing": CORE,
    "exporter.exposition": CORE,
    "exporter.fleet": (*CORE, *below("exporter", "probing", "exposition")),
    "exporter.web": (*CORE, *below("exporter", "probing", "exposition", "fleet")),
    "exporter.__main__": (*CORE, *below("exporter", "probing", "exposition", "fleet", "web")),
    **dict.fromkeys(LEAVES, features()),
    "remediator.store": features(),
    "remediator.aws": features(),
    "remediator.monitoring": (*features(), "exporter.probing.probe"),
    "remediator.notifications": features("store"),
    "remediator.engine": features("store", "aws", "notifications"),
    "remediator.alerts": features("store", "notifications"),
    "remediator.configuration": features("store", "aws", "monitoring"),
    "remediator.cost": features("store", "aws", "monitoring"),
    "remediator.provisioning": features("store", "aws", "monitoring", "engine", "configuration", "cost"),
    "remediator.recovery": features("store", "aws", "monitoring", "notifications", "engine", "provisioning"),
    "remediator.rollouts": features("store", "monitoring", "engine", "provisioning"),
    "remediator.scaling": features(
        *("store", "aws", "monitoring", "engine", "configuration", "cost", "provisioning", "recovery")
    ),
    "remediator.backup": features("store", "aws"),
    "remediator.runtime": (*features(), *FEATURES, "exporter.probing.probe"),
    "remediator.api": (*features(), *FEATURES, "remediator.runtime"),
    "remediator.app": features("store", "runtime", "api"),
    "remediator.cli": features("store", "aws", "backup", "runtime", "api", "app"),
    "remediator.__main__": features("store", "aws", "backup", "runtime", "api", "app", "cli"),
    "remediator": (),
    "botctl": (),  # it talks to the HTTP API and nothing else
    "botctl.commands": ("botctl",),
    "botctl.__main__": ("botctl",),
    "dashboards": ("dashboards", *below("exporter", "metrics", "score", "durations"), "remediator.metrics"),
    "sandbox.process": ("remediator.provisioning.cloudinit",),  # which OpenClaw an instance would install
    "sandbox.process.gateway": (  # how an instance would configure it
        "sandbox.process",
        "templates",
        "exporter.targets",
        "remediator.configuration.rendering",
        "remediator.provisioning.cloudinit",
    ),
    "sandbox.cloud": ("sandbox.process", "remediator.aws.user_data", "exporter.result"),
    "sandbox.stack": (
        *below("sandbox", "process", "cloud"),
        *below("exporter", "score", "metrics", "durations", "settings"),
        "remediator.settings",
    ),
    "sandbox.demo": (*below("sandbox", "process", "cloud", "stack"), "exporter.score"),
}

# Third-party packages that a few places only may import, wherever else they are installed.
ONLY_IN: Mapping[str, tuple[str, ...]] = {
    "boto3": ("remediator.aws.*", "remediator.cost.pricing_api"),
    "botocore": ("remediator.aws.*", "remediator.cost.pricing_api"),
    "starlette": ("remediator.api.*", "remediator.app"),
    "sqlalchemy": (
        "remediator.store.*",
        "remediator.*.repository",
        *below("remediator.backup", "dump", "restore"),
    ),
}


def imports(source: str, package: str) -> Iterator[str]:
    """Yield every module that the source names, wherever in the file; `from x import y` may mean `x.y`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = resolve_name("." * level + (module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def modules(root: Path) -> dict[str, list[str]]:
    """Return what each module below `root` imports, by its dotted name."""
    sources = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        package = ".".join(parts[:-1])
        sources[name] = list(imports(path.read_text(encoding="utf-8"), package))
    return sources


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def row(module: str) -> str | None:
    """Return the row of the table that the module stands in: the longest name that it begins with."""
    return max((package for package in MAY_IMPORT if within(module, package)), key=len, default=None)


def violations(root: Path) -> list[str]:
    """Return each import of ours against the table, and each of a guarded library outside its places."""
    faults = []
    for module, names in modules(root).items():
        package = row(module)
        for name in names:
            top = name.partition(".")[0]
            if top in PACKAGES and package is not None:
                own = package not in LEAVES and row(name) == package
                if not own and not any(within(name, allowed) for allowed in MAY_IMPORT[package]):
                    faults.append(f"{module} imports {name}")
            elif not module.startswith(("sandbox", "tests")) and not any(
                fnmatchcase(module, place) for place in ONLY_IN.get(top, ("*",))
            ):
                faults.append(f"{module} imports {name}")
    return faults


def circle(root: Path) -> list[str]:
    """Return the modules of one circle of imports, in order; an empty list if there is none."""
    sources = modules(root)
    graph = {
        module: {
            target
            for name in names
            for target in (name, name.rpartition(".")[0])
            if target in sources and target != module and not within(module, target)
        }
        for module, names in sources.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle
    return []


def test_imports_keep_to_the_table_in_the_architecture() -> None:
    assert violations(ROOT) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(ROOT) == []


def test_every_package_of_the_table_is_there() -> None:
    names = modules(ROOT)
    assert [package for package in MAY_IMPORT if not any(within(name, package) for name in names)] == []


def test_every_package_of_ours_has_a_row() -> None:
    free = ("tests", "sandbox.simulator", "sandbox.__main__", "sandbox")
    missing = {
        name for name in modules(ROOT) if row(name) is None and not any(within(name, f) for f in free[:3])
    }
    assert missing <= {"sandbox"}


def test_the_root_of_the_remediator_is_small() -> None:
    assert len([path for path in (ROOT / "remediator").glob("*.py") if not path.stem.startswith("__")]) <= 12


def test_no_folder_has_more_modules_than_a_reader_takes_in() -> None:
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    modules_in = {folder: len([*folder.glob("*.py")]) for folder in folders}
    assert {str(folder): count for folder, count in modules_in.items() if count > 24} == {}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_planted_violation_in_each_package_is_found(tmp_path: Path, package: str) -> None:
    where = tmp_path / package.replace(".", "/")
    path = where.with_suffix(".py") if package in LEAVES or "__main__" in package else where / "planted.py"
    path.parent.mkdir(parents=True)
    path.write_text("from tests.remediator.conftest import serve\n")
    (module,) = (name for name in modules(tmp_path) if within(name, package))
    assert violations(tmp_path) == [f"{module} imports tests.remediator.conftest.serve"]


@pytest.mark.parametrize(
    ("where", "line", "named"),
    [
        ("exporter/x.py", "import remediator.metrics", "remediator.metrics"),
        ("exporter/x.py", "from sandbox import cloud", "sandbox.cloud"),
        ("exporter/score.py", "from exporter.fleet import fleet", "exporter.fleet.fleet"),
        (
            "exporter/probing/x.py",
            "from exporter.exposition.store import Store",
            "exporter.exposition.store.Store",
        ),
        (
            "remediator/store/x.py",
            "from remediator.alerts.webhook import Alert",
            "remediator.alerts.webhook.Alert",
        ),
        ("remediator/store/x.py", "from exporter import fleet", "exporter.fleet"),
        ("remediator/model.py", "import exporter", "exporter"),
        (
            "remediator/settings.py",
            "from remediator.provisioning import cloudinit",
            "remediator.provisioning.cloudinit",
        ),
        ("remediator/scaling/x.py", "from remediator.api import bots", "remediator.api.bots"),
        (
            "remediator/scaling/x.py",
            "def f():\n    from remediator.runtime import Runtime",
            "remediator.runtime.Runtime",
        ),
        ("remediator/cost/x.py", "import boto3", "boto3"),
        ("exporter/x.py", "from starlette.requests import Request", "starlette.requests.Request"),
        ("botctl/x.py", "import boto3", "boto3"),
        ("dashboards/x.py", "import sqlalchemy", "sqlalchemy"),
        (
            "remediator/recovery/x.py",
            "from botocore.exceptions import ClientError",
            "botocore.exceptions.ClientError",
        ),
        (
            "remediator/provisioning/x.py",
            "from starlette.requests import Request",
            "starlette.requests.Request",
        ),
        (
            "remediator/engine/x.py",
            "if TYPE_CHECKING:\n    from sqlalchemy.exc import DBAPIError",
            "sqlalchemy.exc.DBAPIError",
        ),
        ("templates/x.py", "import importlib\nimportlib.import_module('exporter.score')", "exporter.score"),
        ("dashboards/x.py", "from exporter.result import Verdict", "exporter.result.Verdict"),
        ("botctl/x.py", "from remediator.api import views", "remediator.api.views"),
        ("sandbox/cloud/x.py", "from sandbox.stack import stack", "sandbox.stack.stack"),
    ],
)
def test_a_planted_violation_is_found(tmp_path: Path, where: str, line: str, named: str) -> None:
    (tmp_path / where).parent.mkdir(parents=True)
    (tmp_path / where).write_text(line)
    assert violations(tmp_path) == [f"{where.removesuffix('.py').replace('/', '.')} imports {named}"]


def test_a_relative_import_out_of_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "remediator").mkdir()
    (tmp_path / "remediator" / "x.py").write_text("from ...exporter import web")
    with pytest.raises(ImportError):
        violations(tmp_path)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("remediator/monitoring/x.py", "from exporter.probing.probe import probe"),
        ("remediator/model.py", "from exporter.targets import Target\nimport templates"),
        ("remediator/recovery/deep/x.py", "from ..ladder import next_move\nfrom . import y"),
        ("remediator/cost/pricing_api.py", "import boto3"),
        ("remediator/rollouts/repository.py", "import sqlalchemy"),
        ("dashboards/x.py", "from remediator import metrics"),
        ("exporter/x.py", "import exporters_of_others, aiohttp"),
        ("sandbox/simulator/x.py", "from remediator.engine.engine import Engine"),
    ],
)
def test_what_the_table_allows_passes(tmp_path: Path, where: str, line: str) -> None:
    (tmp_path / where).parent.mkdir(parents=True)
    (tmp_path / where).write_text(line)
    assert violations(tmp_path) == []


@pytest.mark.parametrize(
    "sources",
    [
        {"a": "from remediator.store import b", "b": "from remediator.store.a import x"},
        {
            "a": "import remediator.store.b",
            "b": "def f():\n    from remediator.store import c",
            "c": "from . import a",
        },
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, sources: dict[str, str]) -> None:
    folder = tmp_path / "remediator" / "store"
    folder.mkdir(parents=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    assert set(circle(tmp_path)) == {f"remediator.store.{name}" for name in sources}
