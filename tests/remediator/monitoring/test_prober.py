"""What verification makes of a series of probes; the probes themselves are the exporter's."""

import asyncio
import resource
from collections.abc import Sequence
from typing import Any, cast

import pytest

from exporter.probing.probe import open_session
from exporter.targets import Target
from remediator.monitoring.prober import Observation, Prober

TARGET = Target(bot="forge", address="127.0.0.1:9")
WELL, ILL = Observation(True, "ok"), Observation(False, "/health: http_status: 500")
UNSEEN = Observation(False, "not probed: Too many open files", own_fault=True)


class ScriptedProber(Prober):
    """Gives these observations one after the other, and the last of them for ever."""

    def __init__(self, observations: Sequence[Observation], needed: int) -> None:
        super().__init__(cast(Any, None), timeout=1, interval=0, needed=needed)
        self.observations = list(observations)

    async def probe_once(self, _: Target) -> Observation:
        return self.observations.pop(0) if len(self.observations) > 1 else self.observations[0]


@pytest.mark.parametrize(
    ("observations", "patience", "well"),
    [
        ([WELL], 0, True),
        ([ILL], 0, False),
        ([ILL, ILL, WELL], 60, True),
        ([WELL, ILL, WELL, WELL, WELL], 60, True),
        ([WELL, WELL, WELL], -100, True),  # resumed long after its deadline
        ([ILL, WELL], -100, False),
    ],
)
async def test_a_bot_is_well_after_so_many_healthy_probes_in_a_row(
    observations: list[Observation], patience: float, well: bool
) -> None:
    assert (await ScriptedProber(observations, needed=3).verify(TARGET, patience))[0] == well


async def test_a_bot_that_falls_ill_again_within_the_window_is_not_well() -> None:
    prober = ScriptedProber([WELL, WELL, ILL], needed=2)
    well, observation = await prober.verify(TARGET, 60, window=60)
    assert (well, observation.detail) == (
        False,
        "ill again after 2 healthy probes: /health: http_status: 500",
    )


async def test_a_healthy_answer_that_is_rejected_counts_as_ill_and_says_why() -> None:
    async def reject(_: Observation) -> str:
        return "it has not rebooted"

    prober = ScriptedProber([WELL], needed=1)
    well, observation = await prober.verify(TARGET, 0, reject)
    assert (well, observation.healthy, observation.detail) == (False, False, "it has not rebooted")


async def test_a_bot_without_an_address_is_not_healthy() -> None:
    prober = Prober(cast(Any, None), timeout=1, interval=0, needed=1)
    assert await prober.probe_once(Target(bot="forge", address="")) == Observation(False, "it has no address")


@pytest.mark.parametrize(
    ("observations", "patience", "well"),
    [
        ([UNSEEN, UNSEEN, WELL], 60, True),
        ([WELL, UNSEEN, WELL, UNSEEN, WELL], 60, True),
        ([UNSEEN], 0, False),
        ([WELL, WELL, UNSEEN], 0, False),
    ],
)
async def test_a_fault_of_ours_is_no_news_of_a_bot_and_beyond_patience_no_verdict(
    observations: list[Observation], patience: float, well: bool
) -> None:
    prober = ScriptedProber(observations, needed=3)
    assert await prober.verify(TARGET, patience) == (well, WELL if well else UNSEEN)


async def test_want_of_descriptors_is_a_fault_of_ours() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, open_session() as session:
        prober = Prober(session, timeout=20, interval=0, needed=1)
        target = Target(bot="forge", address=f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # and 0, 1 and 2 are taken
        try:
            well, observation = await prober.verify(target, 0)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (well, observation.own_fault) == (False, True)
        assert "Too many open files" in observation.detail
        assert (await prober.verify(target, 0))[0]
