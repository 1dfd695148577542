"""Dashboards against Grafana's own types: `schema/make` turns `@grafana/schema` into the schema used here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, ValidationError

from dashboards.__main__ import GENERATED, ROOT

SCHEMA = json.loads((Path(__file__).parent / "schema" / "grafana.schema.json").read_text())
VALIDATOR = Draft7Validator(SCHEMA)
FILES = sorted((ROOT / GENERATED).glob("*.json"))


def faults(error: ValidationError) -> Iterator[str]:
    """Return the faults; where a panel is of none of the plugins, only what its own plugin says of it."""
    branches: dict[Any, list[ValidationError]] = {}
    for inner in error.context or []:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    own = [errors for errors in branches.values() if not any(list(e.path)[-1:] == ["type"] for e in errors)]
    if own:
        for inner in own[0]:
            yield from faults(inner)
    else:
        yield f"{error.json_path}: {error.message[:300]}"


def problems(board: Any) -> list[str]:
    return [fault for error in VALIDATOR.iter_errors(board) for fault in faults(error)]


def test_the_schema_is_one() -> None:
    Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_is_of_grafanas_types(path: Path) -> None:
    assert problems(json.loads(path.read_text())) == []


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda board: board.update(rows=[]), "rows"),
        (lambda board: board.update(schemaVersion="39"), "schemaVersion"),
        (lambda board: board["panels"][1]["options"].update(sparkline={}), "sparkline"),
        (lambda board: board["panels"][1]["options"].update(colorMode="pink"), "colorMode"),
        (lambda board: board["panels"][1].update(type="singlestat"), "panels[1]"),
        (lambda board: board["panels"][1]["targets"][0].update(step=4), "step"),
        (lambda board: board["templating"]["list"][1].pop("name"), "name"),
    ],
    ids=[
        "a key of old",
        "a wrong type",
        "an option of old",
        "no such value",
        "no such plugin",
        "query",
        "gone",
    ],
)
def test_what_grafana_would_not_know_is_found(break_it: Any, problem: str) -> None:
    board = json.loads(FILES[0].read_text())
    break_it(board)
    assert problem in " ".join(problems(board))
