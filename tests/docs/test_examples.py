"""The examples do what their pages say, run as they are written there."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.cloud.client import run_cloud
from sandbox.process.processes import free_port
from sandbox.stack.stack import Stack, run_stack
from tests.docs.conftest import FIRST, SETTINGS, deploy
from tests.docs.pages import ROOT, commands
from tests.docs.reading import Reading, read_page, run_command

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]

SERVES = "BOT_REMEDIATOR_TEMPLATES_DIR=types bot-remediator"  # as the stack's remediator was started
LONGEST_README = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run a stack whose remediator has the templates of examples/custom-template."""
    folder, types = tmp_path_factory.mktemp("stack"), tmp_path_factory.mktemp("types")
    for template in (*ROOT.glob("templates/*.yaml"), *ROOT.glob("examples/custom-template/*.yaml")):
        shutil.copy(template, types)
    async with (
        run_cloud(folder / "cloud", boot_seconds=0.1) as cloud,
        run_stack(folder, cloud, settings={**SETTINGS, "TEMPLATES_DIR": str(types)}) as running,
    ):
        await deploy(running, {FIRST: "tool-builder"})
        yield running


async def run_example(reading: Reading, page: Path) -> None:
    """Run all command lines of an example's page."""
    for command in commands(page):
        if command.text != SERVES:
            assert await run_command(reading, command) == ""


def lay_out_examples(folder: Path, port: int) -> None:
    """Copy examples and templates into the folder; the service of any-service listens on `port`."""
    for name in ("examples", "templates"):
        shutil.copytree(ROOT / name, folder / name)
    bots = folder / "examples/any-service/bots.yaml"
    bots.write_text(bots.read_text().replace("18790", str(port)))


@pytest.mark.parametrize(
    ("example", "bot", "printed"),
    [
        ("deploy-with-curl", "carla", ("deployed 100%", '"recovered"', "carla")),
        ("any-service", "shop", ('bot_up{bot="shop"}', "GET /health")),
        ("custom-template", "rita", ("rita", "researcher")),
    ],
)
async def test_the_example_does_what_its_page_says(
    example: str, bot: str, printed: tuple[str, ...], stack: Stack, tools: Path, tmp_path: Path
) -> None:
    page = ROOT / "examples" / example / "README.md"
    port = free_port()
    lay_out_examples(tmp_path, port)
    async with read_page(stack, page, tmp_path, tools, bot, commands(page)) as reading:
        reading.values |= {"18790": str(port), "my-researcher": bot}
        await run_example(reading, page)
        for text in printed:
            assert text in reading.printed


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("examples/**/README.md")), ids=lambda page: page.parent.name
)
async def test_the_page_of_an_example_is_short(page: Path) -> None:
    assert len(page.read_text().splitlines()) <= LONGEST_README
