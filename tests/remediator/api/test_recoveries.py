"""Recoveries that a person asks for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from tests.remediator.conftest import Api, World, firing

RunApp = Callable[..., AbstractAsyncContextManager[Api]]


async def test_a_wait_answers_with_the_end_or_with_what_is_so_by_then(run_app: RunApp, world: World) -> None:
    bot = world.name()
    async with run_app(restart_timeout=10) as app:
        await app.deployed(bot)
        ended = await app.post(f"/recover/{bot}?wait=60", {"method": "restart"})
        assert (ended.status, ended.body["status"]) == (200, "recovered")
        assert ended.body["finishedAt"]
        await world.cloud.fault(bot, "error", cured_by="reboot")
        late = await app.post(f"/recover/{bot}?wait=0.2", {"method": "restart"})
        assert (late.status, late.body["status"], late.body["finishedAt"]) == (202, "running", None)
        assert late.headers["Location"] == f"/recover/{late.body['recoveryId']}"
        again = await app.post(f"/recover/{bot}", {"method": "restart"})
        assert (again.status, again.field) == (409, "botId")
        assert late.body["recoveryId"] in again.body["error"]["message"]
        assert await app.alert(firing(bot)) == []  # it joins the run that a person began
        assert (await app.get(f"/recover/{late.body['recoveryId']}"))["alerts"][0]["name"] == "BotDown"
        await world.cloud.heal(bot)
        assert (await app.until_ended(f"/recover/{late.body['recoveryId']}"))["status"] == "recovered"
