"""Approvals by Telegram, from a chat with a person in it."""

from sandbox.process.waiting import wait_until
from tests.remediator.conftest import World
from tests.remediator.recovery.episodes import APPROVE, Chat, RunApp, blocked, ended, ill


async def test_a_person_in_the_chat_says_yes_or_no_and_nobody_else_can(
    run_app: RunApp, world: World, chat: Chat
) -> None:
    async with run_app(**APPROVE, **chat.settings) as app:
        (yes, first), (no, second) = await ill(app, world), await ill(app, world)
        (yes_run,), (no_run,) = await app.alert(first), await app.alert(second)
        for run_id in (yes_run, no_run):
            await blocked(app, run_id, "mode")
        chat.write(f"/approve {no_run}", chat="666")
        chat.write(f"please /approve {no_run}")
        chat.write("/approve rec-0123456789abcdef")
        chat.write(f"/approve@the_bot {yes_run}")
        chat.write(f"/deny {no_run}")
        assert await ended(app, yes_run) == ("recovered", "restart cured it")
        assert await ended(app, no_run) == ("escalated", "telegram:ann denied it")
        assert [await world.actions(bot) for bot in (yes, no)] == [["run", "restart"], ["run"]]
        await chat.until_message("rec-0123456789abcdef does not wait for an answer")


async def test_a_telegram_that_does_not_hold_the_question_is_not_asked_without_pause(
    run_app: RunApp, chat: Chat
) -> None:
    async with run_app(**APPROVE, **chat.settings) as app:

        async def polled() -> bool:
            return chat.polls > 0

        await wait_until(polled, what="the first question")
        for _ in range(30):
            await app.get("/health")
        assert chat.polls < 20
