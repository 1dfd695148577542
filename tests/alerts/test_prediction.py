"""BotFailurePredicted over generated days: the short version of `make bench BENCH=prediction`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "prediction.py"
HEALTHY = ("quiet", "wandering", "releases", "refused_probes")
NO_TREND = ("step_dead", "recovering")
DECLINES = ("linear_3h", "doubling_30min", "refusing_more_12h", "hanging_more_12h")


@pytest.mark.timeout(180)
def test_declines_are_predicted_in_time_and_noise_is_not() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--healthy=1", "--declines=1", "--kinds", *HEALTHY, *NO_TREND, *DECLINES],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["bot_days_healthy"] == len(HEALTHY)
    assert figures["false_alarms_per_1000_bot_days"] == 0
    assert figures["alarms_per_1000_bot_days_ill_without_trend"] == 0
    assert figures["declines"] == len(DECLINES)
    assert figures["caught_share"] == 1
    assert figures["median_lead_minutes"] >= 10
