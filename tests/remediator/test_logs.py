from structlog.testing import capture_logs

from remediator.logs import MOST, SECONDS, Sparing


def test_of_a_thousand_lines_a_few_are_written_and_the_others_are_counted() -> None:
    sparing = Sparing()
    allowed = [sparing.allow("run held by fleet", 1000 + number / 100) for number in range(1000)]
    assert sum(allowed) == MOST
    assert all(allowed[:MOST])
    assert sparing.allow("run held by rate", 1001), "another kind has lines of its own"
    with capture_logs() as said:
        assert sparing.allow("run held by fleet", 1000 + SECONDS)
    assert [(line["event"], line["count"]) for line in said] == [("lines left out", 1000 - MOST)]
