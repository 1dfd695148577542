"""The check of file descriptors against the fleet's size."""

from exporter.descriptors import RESERVED, shortage
from exporter.settings import Settings


def test_a_fleet_that_fits_is_no_news() -> None:
    assert shortage(3000, 1024 + RESERVED, Settings(interval=60, timeout=10)) == ""


def test_a_fleet_that_could_outgrow_the_limit_is_told_what_to_set() -> None:
    told = shortage(50_000, 1024, Settings(interval=60, timeout=10))
    assert f"LimitNOFILE={RESERVED + 50_000 // 3}" in told
    assert "1024 are allowed" in told


def test_kept_connections_need_one_a_bot() -> None:
    assert shortage(1000, 1000, Settings(keep_alive=True))
