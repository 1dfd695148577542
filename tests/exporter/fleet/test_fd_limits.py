"""The check of file descriptors against the fleet's size."""

from exporter.fleet.fd_limits import RESERVED, shortage
from exporter.settings import Settings
from exporter.targets import Target


def bots(count: int, interval: float | None = None) -> list[Target]:
    return [Target("forge", "127.0.0.1:1", template="support", interval=interval)] * count


def test_a_fleet_that_fits_is_no_news() -> None:
    assert shortage(bots(3000), 1024 + RESERVED, Settings(interval=60, timeout=10)) == ""


def test_a_fleet_that_could_outgrow_the_limit_is_told_what_to_set() -> None:
    message = shortage(bots(50_000), 1024, Settings(interval=60, timeout=10))
    assert f"LimitNOFILE={RESERVED + 50_000 // 3}" in message
    assert "1024 are allowed" in message


def test_kept_connections_need_one_a_bot() -> None:
    assert shortage(bots(1000), 1000, Settings(keep_alive=True))


def test_bots_probed_more_often_need_more() -> None:
    settings = Settings(interval=60, timeout=10, template_intervals={"support": 30})
    assert f"LimitNOFILE={RESERVED + 666}" in shortage(bots(1000), 700, settings)
    assert shortage(bots(1000, interval=600), 700, settings) == ""
