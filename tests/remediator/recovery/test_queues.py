"""When a queue is one that nobody fetches."""

from hypothesis import given
from hypothesis import strategies as st

from remediator.recovery.queues import LOOKS, Queue, QueueAnswer, next_queue, stalled

COUNTS = st.lists(st.integers(0, 5), max_size=8)
ANSWERS = st.one_of(
    st.builds(QueueAnswer, pending=st.integers(0, 5)),
    st.just(QueueAnswer(refused=True)),
    st.just(QueueAnswer(problem="away")),
)


@given(COUNTS)
def test_it_is_stalled_exactly_where_three_looks_saw_it_and_it_never_fell(counts: list[int]) -> None:
    last = counts[-3:]
    expected = len(last) == 3 and 0 not in last and sorted(last) == last
    assert stalled(tuple(counts)) == expected


@given(COUNTS, st.integers(0, 5))
def test_one_look_at_an_empty_or_a_shorter_queue_ends_it(counts: list[int], now: int) -> None:
    if not counts or now == 0 or now < counts[-1]:
        assert not stalled((*counts, now))


@given(st.lists(st.tuples(ANSWERS, st.floats(1, 250)), max_size=12))
def test_only_answers_count_and_only_those_that_are_not_too_old(
    looks: list[tuple[QueueAnswer, float]],
) -> None:
    """Against the whole history: what was asked when, of which the queue keeps a little."""
    now, queue, known = 1000.0, None, list[tuple[float, QueueAnswer]]()
    for answer, pause in looks:
        now += pause
        queue = next_queue(queue, answer, now, 60)
        if known and now - known[-1][0] > 180:
            known = []
        if answer.refused:
            known = [(now, answer)]
        elif answer.pending is not None:
            known = [one for one in known if not one[1].refused] + [(now, answer)]
        if not known:
            assert queue is None
            continue
        assert queue is not None
        assert (queue.at, queue.refused) == (known[-1][0], known[-1][1].refused)
        pending = [one.pending for _, one in known if one.pending is not None]
        assert list(queue.pending) == pending[-LOOKS:]


@given(st.floats(0, 1e9), st.lists(st.integers(0, 5), max_size=3), st.booleans())
def test_it_is_in_the_store_as_it_was(at: float, pending: list[int], refused: bool) -> None:
    queue = Queue(at, tuple(pending), refused)
    assert Queue.from_fact(queue.fact()) == queue
