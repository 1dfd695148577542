"""A bash that runs one command line after another, as a reader's terminal does, and says how each ended."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

# Commands come on descriptor 9, each ended by a NUL; the exit codes go to descriptor 8, one a line. `eval`
# reads a command anew, so that an alias counts from the next one on; what a command sets stays for the next.
LOOP = r"""
exec 9<&0 8>&1 </dev/null >/dev/null
folder=$PWD
shopt -s expand_aliases
set -o pipefail
while IFS= read -r -d '' -u 9 command; do
    eval "$command" >"$folder/stdout" 2>"$folder/stderr" 8>&- 9<&-
    echo $? >&8
done
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str


class Shell:
    """A running bash; its files are in `folder`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path) -> None:
        self._process = process
        self._folder = folder

    async def run(self, command: str, seconds: float = 60) -> Result:
        """Run a command line to its end. TimeoutError after so many seconds; the shell is of no use then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\0")
        async with asyncio.timeout(seconds):
            code = await self._process.stdout.readline()
        read = [(self._folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
        return Result(int(code), *read)


@asynccontextmanager
async def run_shell(folder: Path, environment: Mapping[str, str]) -> AsyncIterator[Shell]:
    """Start a bash in a folder; whatever it has started ends with it."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-c", LOOP),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        yield Shell(process, folder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
