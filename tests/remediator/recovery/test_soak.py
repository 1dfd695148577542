"""What is seen of a redeployed bot's queue and turns in its soak, on a clock of this test's own."""

from dataclasses import dataclass, field

import pytest

from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.recovery.queues import QueueAnswer
from remediator.recovery.soak import watched
from tests.remediator.recovery.test_census import bot, registry
from tests.remediator.recovery.test_queue_watch import Channel

UP = {"telegram": True}
LOOKS_LIKE_WELL = Observation(True, "ok", work=Work(UP, 0.0, 7.0, {"other": 0.0}))
WAITING = "3 updates wait at telegram, and are not fetched"


@dataclass
class Soaking:
    """A soak, probed every 5 s of its clock."""

    channel: Channel = field(default_factory=Channel)
    now: float = 1000.0
    paused: bool = False

    async def reasons(self, answers: list[QueueAnswer], window: float = 300.0) -> list[str]:
        """Give these answers one after the other, one a look; return each change of the verdict, in order."""
        store = await registry(bot("forge"))
        store.monotonic = lambda: self.now
        if self.paused:
            async with store.write() as tx:
                hold = {"scope": "bot", "name": "forge", "reason": "work", "actor": "ann"}
                await tx.add_hold(**hold, starts_at=0.0, ends_at=None)
        reject = watched(self.channel.watch(store), bot("forge"), window)
        said: list[str] = []
        for _ in range(round(window / 5)):
            self.channel.answers["forge"] = answers[min(self.channel.asked["forge"], len(answers) - 1)]
            said.append(await reject(LOOKS_LIKE_WELL) or "")
            self.now += 5
        return [reason for before, reason in zip(["?", *said], said, strict=False) if reason != before]


@pytest.mark.parametrize(
    ("pending", "verdicts"),
    [
        ([0], [""]),
        ([1, 2, 3], ["", WAITING]),
        ([3, 3, 3, 2], ["", WAITING, ""]),
        ([9, 5, 3, 1, 0], [""]),  # what came while it moved
        ([0, 3, 0, 3, 0], [""]),  # a message that it has not fetched yet
    ],
)
async def test_a_queue_that_does_not_fall_for_three_looks_is_not_heard(
    pending: list[int], verdicts: list[str]
) -> None:
    soaking = Soaking()
    assert await soaking.reasons([QueueAnswer(count) for count in pending]) == verdicts
    assert soaking.channel.asked == {"forge": 5}  # a minute's pause, and 60 probes


async def test_no_answer_is_no_verdict_and_a_refused_token_is_one() -> None:
    assert await Soaking().reasons([QueueAnswer(problem="no answer")]) == [""]
    assert await Soaking().reasons([QueueAnswer(3), QueueAnswer(refused=True)]) == [
        "",
        "telegram refuses its token",
    ]


async def test_a_paused_bot_may_have_a_queue_and_a_soak_too_short_for_three_looks_has_none() -> None:
    paused, short = Soaking(paused=True), Soaking()
    assert await paused.reasons([QueueAnswer(3)]) == [""]
    assert await short.reasons([QueueAnswer(3)], window=20.0) == [""]
    assert paused.channel.asked == short.channel.asked == {}


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (Work(), None),
        (Work(UP), None),
        (Work({"telegram": False}), "telegram is down"),
        (Work(turn_age=1801.0), "a turn has run for 1801 s"),
        (Work(turn_age=1800.0), None),
        (Work(succeeded=0.0, failed={"other": 2.0}), "2 turns failed"),
        (Work(succeeded=0.0, failed={"model_not_found": 2.0}), "2 turns failed"),  # of its configuration
        (Work(succeeded=1.0, failed={"other": 2.0}), None),
        (Work(succeeded=0.0, failed={"overloaded": 9.0, "auth": 9.0}), None),  # none of its own
        (Work(succeeded=0.0, failed={"other": 0.0}), None),
    ],
)
async def test_its_work_is_judged_as_far_as_it_is_told(work: Work, why: str | None) -> None:
    watch = Channel().watch(await registry(bot("forge")), queue_looks=False)
    assert await watched(watch, bot("forge"), 300)(Observation(True, "ok", work=work)) == why
