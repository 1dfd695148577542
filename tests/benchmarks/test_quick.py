"""Every benchmark runs, in its quick mode, as `make bench` starts it. What it measures then means nothing."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(
    path.stem
    for path in Path(__file__).parent.glob("*.py")
    if 'if __name__ == "__main__":\n' in path.read_text() and path != Path(__file__)
)


def make_bench(*variables: str) -> subprocess.CompletedProcess[str]:
    """Run `make bench` with these variables, as a person does: not as a part of the `make test` around it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "bench", *variables],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_make_bench_lists_them() -> None:
    assert make_bench().stdout.split() == BENCHMARKS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str) -> None:
    done = make_bench(f"BENCH={name}", "ARGS=--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert len(figures) > 5
