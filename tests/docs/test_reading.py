"""What runs the documents' command lines would notice: each kind of failure, and what is no command."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox.process.waiting import wait_until
from tests.docs.pages import INLINE, split, without_comment
from tests.docs.reading import as_typed, finds_nothing
from tests.docs.shell import Result, Shell, run_shell


@pytest_asyncio.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    """Run a bash in an empty folder."""
    async with run_shell(tmp_path, {}) as running:
        yield running


@pytest.mark.parametrize("command", ["false", "false | cat", "ls nowhere", "no-such-program", "echo 'open"])
async def test_a_command_that_fails_anywhere_in_its_pipe_has_a_code(shell: Shell, command: str) -> None:
    assert (await shell.run(command)).code != 0


async def test_what_a_command_sets_is_there_for_the_next(shell: Shell) -> None:
    for command in ("R=here", "alias say='echo $R'", "mkdir below && cd below"):
        assert (await shell.run(command)).code == 0
    assert await shell.run("say; pwd | grep -c below") == Result(0, "here\n1\n", "")


async def test_nobody_is_there_to_answer_a_command_that_asks(shell: Shell) -> None:
    assert (await shell.run("read -r answer", seconds=10)).code == 1


async def test_what_was_started_in_the_background_ends_with_the_shell(tmp_path: Path) -> None:
    async with run_shell(tmp_path, {}) as shell:
        await shell.run("sleep 1000 &")
        stat = Path("/proc", (await shell.run("echo $!")).stdout.strip(), "stat")
        assert stat.exists()

    async def has_ended() -> bool:  # a killed process ends when it is its turn
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    await wait_until(has_ended, what="the end of what was started")


@pytest.mark.parametrize("printed", ["", "null\n", "1\nnull\n", " \n"])
def test_a_filter_that_finds_nothing_is_noticed(printed: str) -> None:
    assert finds_nothing("api $R/cost | jq .a", Result(0, printed, ""))


@pytest.mark.parametrize("printed", ["0\n", "[1,null]\n", "[]\n", '"null"\n'])
def test_a_filter_that_finds_something_is_none(printed: str) -> None:
    assert not finds_nothing("api $R/cost | jq .a", Result(0, printed, ""))


def test_a_block_is_split_into_the_commands_that_a_shell_would_run() -> None:
    block = "# only words\na -b  # it's one\n\nc 'd\ne' | f\ng \\\n  h\n"
    assert [command for _, command in split(block)] == ["a -b  # it's one", "c 'd\ne' | f", "g \\\n  h"]


def test_a_comment_is_no_part_of_a_command() -> None:
    assert without_comment("curl 'a#b' # c") == "curl 'a#b'"
    assert without_comment('echo "x # y"') == 'echo "x # y"'


def test_the_name_of_a_program_is_no_command() -> None:
    assert INLINE.findall("`curl`, `botctl status`, `--json`, `jq .a`") == ["botctl status", "jq .a"]


def test_an_exporter_runs_in_the_background_on_a_clock_of_its_own() -> None:
    assert as_typed("bot-exporter --targets.file bots.yaml  # why") == (
        "bot-exporter --web.listen-address 127.0.0.1:9817 --targets.file bots.yaml --probe.interval 1s &"
    )
