"""Seeds that once found a fault; `corpus.txt` says which."""

from pathlib import Path


def corpus() -> list[int]:
    """Read the seeds."""
    lines = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]
