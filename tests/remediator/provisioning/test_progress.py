"""The progress of a deployment: judged by the past, streamed as it goes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.api.sse import events
from remediator.model import Run, Step, StepState
from remediator.provisioning.progress import DEFAULT_SECONDS, Progress, learn, progress
from tests.remediator.conftest import TOKEN, Api, World

RunApp = Callable[..., AbstractAsyncContextManager[Api]]
RUN = Run("dep-1", "deploy", "forge", "manual", "", "running", "", "", 0.0, None)
EXPECTED = {"token": 10.0, "launch": 30.0, "healthy": 60.0}


def step(name: str, begun: float, ended: float | None = None, state: StepState = "done") -> Step:
    state = state if ended is not None else "intended"
    return Step(0, "dep-1", name, state, {}, {}, "", begun, None, ended)


@pytest.mark.parametrize(
    ("steps", "now", "expected"),
    [
        ([], 0, Progress(0, 100)),
        ([step("token", 0)], 5, Progress(5, 95)),
        ([step("token", 0)], 50, Progress(9, 90.5)),
        ([step("token", 0, 1)], 1, Progress(10, 90)),
        ([step("token", 0, 1), step("launch", 1)], 16, Progress(25, 75)),
        ([step("token", 0, 1), step("launch", 1, 2), step("healthy", 2)], 500, Progress(97, 3)),
        ([step("token", 0, 1), step("launch", 1, 2, "failed")], 3, Progress(10, None)),
        ([step("token", 0, 1), step("healthy", 1)], 31, Progress(57, 30)),
    ],
)
def test_a_step_counts_as_much_as_it_usually_takes(steps: list[Step], now: float, expected: Progress) -> None:
    assert progress(RUN, steps, EXPECTED, now) == expected


def test_the_end_is_a_hundred_percent_and_a_failure_is_not() -> None:
    steps = [step("token", 0, 1), step("launch", 1, 2), step("healthy", 2, 3)]
    assert progress(replace(RUN, status="deployed", finished_at=3), steps, EXPECTED, 3) == Progress(100, None)
    failed = [*steps[:2], step("healthy", 2, 3, "failed"), step("clean up", 3, 4)]
    assert progress(replace(RUN, status="failed", finished_at=4), failed, EXPECTED, 4) == Progress(40, None)


@given(st.lists(st.floats(0, 1000), min_size=3, max_size=3), st.integers(0, 40))
def test_it_never_goes_back_while_it_runs(takes: list[float], samples: int) -> None:
    """Whatever the steps really take."""
    ends = [sum(takes[: n + 1]) for n in range(3)]
    last = 0
    for sample in range(samples):
        now = sample * max(ends[-1], 1.0) / 40
        steps = [
            step(name, end - took, end if end <= now else None)
            for name, took, end in zip(EXPECTED, takes, ends, strict=True)
            if end - took <= now
        ]
        percent = progress(RUN, steps, EXPECTED, now).percent
        assert last <= percent <= 99
        last = percent


def test_it_learns_the_median_of_each_step_and_drops_what_is_seldom_made() -> None:
    past = [[step("token", 0, took), step("launch", 5, 5 + 2 * took)] for took in (1.0, 2.0, 9.0)]
    past[0].append(step("address", 0, 3))
    assert learn("deploy", past) == {"token": 2.0, "launch": 4.0}
    assert learn("deploy", []) == DEFAULT_SECONDS["deploy"]
    assert learn("scale", []) == {}


# the stream


async def read_events(app: Api, path: str) -> AsyncIterator[tuple[str, Any]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with app.session.get(f"{app.url}{path}?watch=true", headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        name = ""
        async for line in response.content:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


async def test_a_deployment_is_watched_to_its_end_and_the_next_one_is_estimated_by_it(
    app: Api, world: World
) -> None:
    bot, other = world.names(2)
    path = f"/deploy/{(await app.begin_deploy(bot)).body['deploymentId']}"
    events = [event async for event in read_events(app, path)]
    assert [name for name, _ in events][-1] == "end"
    assert {name for name, _ in events[:-1]} <= {"step", "progress"}
    assert "step" in {name for name, _ in events[:-1]}
    percents = [view["percent"] for _, view in events]
    assert percents == sorted(percents)
    end = events[-1][1]
    assert (end["percent"], end["status"], end["estimatedSeconds"]) == (100, "deployed", None)
    assert end == await app.get(path)
    first = events[0][1]
    assert first["estimatedSeconds"] > 60, "as long as is usual, before there is anything to learn from"
    assert first["estimatedFinish"] > first["startedAt"]
    await world.cloud.break_api("RunInstances", "delay", seconds=1)
    path = f"/deploy/{(await app.begin_deploy(other)).body['deploymentId']}"
    view = await app.get(path)
    assert view["estimatedSeconds"] < 60
    ratio = await app.metric(f'bot_deployment_progress_ratio{{bot="{other}",kind="deploy"}}')
    assert ratio is not None
    assert 0 <= ratio < 1
    await app.until_ended(path)
    assert await app.metric(f'bot_deployment_progress_ratio{{bot="{other}",kind="deploy"}}') is None
    assert await app.metric('bot_deployment_duration_seconds_count{kind="deploy"}') == 2


async def test_a_stream_ends_with_the_service(run_app: RunApp, world: World) -> None:
    """And neither it nor a watcher that has gone away keeps the service from stopping."""
    bot = world.name()
    async with aiohttp.ClientSession() as session:
        async with run_app(stability_window=30) as app:
            await world.cloud.break_api("RunInstances", "delay", seconds=2)
            path = f"/deploy/{(await app.begin_deploy(bot)).body['deploymentId']}"
            url, headers = f"{app.url}{path}?watch=true", {"Authorization": f"Bearer {TOKEN}"}
            gone = await session.get(url, headers=headers)
            await gone.content.readline()
            gone.close()
            stays = await session.get(url, headers=headers)
            await stays.content.readline()
            rest = asyncio.create_task(stays.read())
            await asyncio.wait_for(app.until_ended(path), 60)
        assert b"event: end" in await rest


async def test_a_silent_stream_says_that_it_is_still_there_and_ends_when_the_service_leaves() -> None:
    view = {"finishedAt": None, "steps": [{"name": "launch", "status": "running"}], "percent": 3}
    looks = 0

    async def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return view

    events_read = [
        text.decode().partition("\n")[0]
        async for text in events(look, lambda: looks >= 5, poll=0.001, keepalive=0)
    ]
    assert events_read == ["event: step", *[": still there"] * 4]
