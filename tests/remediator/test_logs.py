from structlog.testing import capture_logs

from remediator.logs import LINES_PER_WINDOW, WINDOW, LogLimiter


def test_of_a_thousand_lines_a_few_are_written_and_the_others_are_counted() -> None:
    sparing = LogLimiter()
    allowed = [sparing.allow("run held by fleet", 1000 + number / 100) for number in range(1000)]
    assert sum(allowed) == LINES_PER_WINDOW
    assert all(allowed[:LINES_PER_WINDOW])
    assert sparing.allow("run held by rate", 1001), "another kind has lines of its own"
    with capture_logs() as lines:
        assert sparing.allow("run held by fleet", 1000 + WINDOW)
    assert [(line["event"], line["count"]) for line in lines] == [("lines left out", 1000 - LINES_PER_WINDOW)]
