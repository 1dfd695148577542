"""What HTTP handlers do themselves: they parse, call and answer. What is done stands in its own package."""

import ast
from pathlib import Path

import pytest

API = Path(__file__).parents[3] / "remediator" / "api"
AWS = API.parent / "aws"

ASKED_OF_AWS = {"has_token"}  # what a handler may call itself: it changes nothing
# Of a transaction: what begins a run, makes a bot or moves a group.
BEGUN = {"add_run", "add_runs", "add_step", "add_bot", "set_scaling"}


def effects() -> set[str]:
    """Return the calls by which AWS, runs and bots are read or changed."""
    trees = [ast.parse(path.read_text()) for path in AWS.glob("*.py")]
    methods = {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_")
    }
    return (methods | BEGUN) - ASKED_OF_AWS


def faults(source: str) -> list[str]:
    """Return each effect that the source has itself, and each table's row that it builds."""
    names = effects()
    made = {("Run", "begin"), ("Bot", "registered")}
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        function, owner = node.func, node.func.value
        name = owner.id if isinstance(owner, ast.Name) else ""
        of_aws = name == "aws" or (isinstance(owner, ast.Attribute) and owner.attr == "aws")
        of_transaction = name == "tx" and function.attr in BEGUN
        if (of_aws and function.attr in names) or of_transaction or (name, function.attr) in made:
            found.append(ast.unparse(function))
    return found


def test_no_handler_calls_aws_or_begins_a_run_itself() -> None:
    found = {str(path.relative_to(API)): faults(path.read_text()) for path in API.rglob("*.py")}
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("async def f(aws, bot):\n    await aws.tag(bot.instance_id, {})", ["aws.tag"]),
        ("async def f(runtime, i):\n    await runtime.aws.terminate(i, guard)", ["runtime.aws.terminate"]),
        ("async def f(tx, run):\n    await tx.add_run(run)", ["tx.add_run"]),
        ("run = Run.begin('recover', bot=bot, at=tx.now)", ["Run.begin"]),
        ("async def f(runtime, bot):\n    await runtime.aws.has_token(bot, 0)", []),
        ("async def f(tx, bot):\n    await begin(tx, bot, 'restart', 'me')", []),
    ],
)
def test_a_planted_effect_is_found(source: str, found: list[str]) -> None:
    assert faults(source) == found
