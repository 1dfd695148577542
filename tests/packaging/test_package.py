"""The wheel that the image installs holds all that runs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("botctl", "exporter", "remediator", "templates", "dashboards", "sandbox")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build a wheel from a copy of what the Dockerfile copies; return the names in it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tar = ["tar", "-c", "--exclude=__pycache__", *PACKAGES, "pyproject.toml", "README.md", "LICENSE"]
    packed = subprocess.run(tar, cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], cwd=source, input=packed, check=True)
    build = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*build, "--wheel-dir", str(target)], cwd=source, check=True)
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_every_module_and_data_file_is_in_the_wheel(wheel: set[str]) -> None:
    modules = {path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    patterns = [
        *("templates/*.yaml", "templates/*/*/**/*", "remediator/**/*.yaml", "remediator/**/*.json"),
        "remediator/**/instance/**/*",
    ]
    data = {path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}
    assert {str(path.relative_to(ROOT)) for path in modules | data} - wheel == set()


def test_the_commands_are_there_to_be_called(wheel: set[str]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts.keys() == {"bot-exporter", "bot-remediator", "botctl"}
    for entry in scripts.values():
        assert entry.partition(":")[0].replace(".", "/") + ".py" in wheel
