"""What a class needs are its fields: nothing reaches through one part of the service for another."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent / "remediator"
Fields = dict[str, dict[str, str]]


def classes(trees: list[ast.Module]) -> Iterator[ast.ClassDef]:
    """Yield the classes of these modules."""
    for tree in trees:
        yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def parts(trees: list[ast.Module]) -> Fields:
    """Return the classes that do I/O or hold what does, each with its fields: name to annotation."""
    fields: Fields = {}
    for node in classes(trees):
        has = {
            item.target.id: ast.unparse(item.annotation).removesuffix(" | None")
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        if node.name == "Runtime" or any(isinstance(item, ast.AsyncFunctionDef) for item in node.body):
            fields[node.name] = has
    return fields


def reaches(trees: list[ast.Module]) -> list[str]:
    """Return each `self.part.other`, where the other is a part itself, or what parts take turns by."""
    known = parts(trees)
    found = []
    for node in classes(trees):
        own = known.get(node.name, {})
        for chain in ast.walk(node):
            match chain:
                case ast.Attribute(ast.Attribute(ast.Name("self"), part), other):
                    kind = known.get(own.get(part, ""), {}).get(other, "")
                    if kind in known or kind == "asyncio.Semaphore":
                        found.append(f"{node.name}: self.{part}.{other}")
    return found


def test_no_class_reaches_through_a_part_for_another() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.rglob("*.py")]
    assert reaches(trees) == []


def test_a_reach_is_found() -> None:
    source = """
class Store:
    async def read(self): ...
class Gate:
    store: Store | None
    slots: asyncio.Semaphore
    limit: float
    async def ask(self): ...
class Run:
    gate: Gate
    async def go(self):
        self.gate.store.read()
        self.gate.slots
        self.gate.limit
        self.gate.ask()
"""
    assert sorted(reaches([ast.parse(source)])) == ["Run: self.gate.slots", "Run: self.gate.store"]
