"""What a healthy answer has to say, beside that it is one, until a bot counts as well."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from remediator.engine.journal import Done, Failed
from remediator.monitoring.prober import Observation
from remediator.monitoring.work import Work
from remediator.provisioning.verification import verify_bot
from remediator.recovery.tier_request import TierRequest
from remediator.recovery.tiers import ACTIONS
from tests.remediator.monitoring.test_prober import ScriptedProber
from tests.remediator.recovery.test_census import bot

UP, DOWN = {"telegram": True}, {"telegram": False}
STANDBY = "it stands by still: no channel is up"


def told(config_sha: str | None, channels: Mapping[str, bool] | None) -> Observation:
    return Observation(True, "ok", config_sha=config_sha, work=Work(channels))


async def accept(_: Observation) -> str | None:
    return None


async def mute(_: Observation) -> str | None:
    return "3 turns failed"


@pytest.mark.parametrize(
    ("observation", "mesh_path", "works", "why"),
    [
        (told("sha", UP), "/mesh", accept, ""),
        (told("other", UP), "/mesh", accept, "it runs configuration other, not sha"),
        (told("sha", DOWN), "/mesh", accept, "it does not hear: telegram is down"),
        (told(None, DOWN), "none", accept, "it does not hear: telegram is down"),
        (told("sha", {}), "/mesh", accept, STANDBY),
        (told("sha", UP), "/mesh", mute, "3 turns failed"),
        # what tells nothing is not judged
        (told("sha", None), "/mesh", accept, ""),
        (told(None, {}), "/mesh", accept, ""),
        (told("sha", {}), "none", accept, ""),
        (told(None, None), "/mesh", accept, ""),
        # a candidate that has no token yet
        (told("sha", {}), "/mesh", None, ""),
        (told("sha", DOWN), "/mesh", None, ""),
    ],
)
async def test_a_bot_with_its_token_hears_and_works_as_far_as_it_tells(
    observation: Observation, mesh_path: str, works: Any, why: str
) -> None:
    prober = ScriptedProber([observation], needed=1)
    forge = bot("forge", config_sha="sha", mesh_path=mesh_path)
    outcome = await verify_bot(prober, forge, "127.0.0.1:9", 0, works=works)
    assert isinstance(outcome, Failed if why else Done)
    assert (outcome.reason if isinstance(outcome, Failed) else "") == why


@pytest.mark.parametrize(("channels", "why"), [({}, STANDBY), (UP, None), (None, None)])
def test_a_recoverys_new_instance_is_no_cure_while_it_stands_by(
    channels: Mapping[str, bool] | None, why: str | None
) -> None:
    request = TierRequest(cast(Any, None), bot("forge", config_sha="sha"), "redeploy", "i-1", "b", "s", 0, 60)
    assert ACTIONS["redeploy"].reject(request, told("sha", channels)) == why
