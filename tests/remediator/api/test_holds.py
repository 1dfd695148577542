"""Pauses, maintenance windows, cancels and approvals, as far as the API refuses them."""

import pytest

from tests.remediator.conftest import Api, World


@pytest.mark.parametrize(
    ("hold", "field"),
    [
        ({"scope": "galaxy", "reason": "x"}, "scope"),
        ({"scope": "fleet"}, "reason"),
        ({"scope": "fleet", "name": "forge", "reason": "x"}, "name"),
        ({"scope": "bot", "name": "nobody", "reason": "x"}, "name"),
        ({"scope": "template", "name": "nothing", "reason": "x"}, "name"),
        ({"scope": "environment", "name": "moon", "reason": "x"}, "name"),
        ({"scope": "bot", "reason": "x"}, "name"),
        ({"scope": "fleet", "reason": "x", "endsAt": "2020-01-01T00:00:00Z"}, "endsAt"),
        ({"scope": "fleet", "reason": "x", "endsAt": "2099-01-01T00:00:00"}, "endsAt"),
        (
            {
                "scope": "fleet",
                "reason": "x",
                "startsAt": "2099-01-02T00:00:00Z",
                "endsAt": "2099-01-01T00:00:00Z",
            },
            "endsAt",
        ),
    ],
)
async def test_a_hold_that_makes_no_sense_is_refused_by_field(
    app: Api, hold: dict[str, str], field: str
) -> None:
    answer = await app.post("/holds", hold)
    assert (answer.status, answer.field) == (422, field), answer
    assert await app.get("/holds") == []


async def test_what_is_not_there_cannot_be_lifted_cancelled_answered_or_cleared(
    app: Api, world: World
) -> None:
    bot = world.name()
    await app.deployed(bot)
    run = await app.recover(bot)
    calls: list[tuple[str, str, int, str]] = [
        ("DELETE", "/holds/77", 404, "id"),
        ("DELETE", "/holds/x", 404, "id"),
        ("DELETE", "/holds/²", 404, "id"),
        ("DELETE", "/holds/9999999999999999999", 404, "id"),
        ("POST", "/recover/rec-0/cancel", 404, "recoveryId"),
        ("POST", f"/recover/{run['recoveryId']}/cancel", 409, "recoveryId"),
        ("POST", f"/recover/{run['recoveryId']}/approve", 409, "recoveryId"),
        ("POST", "/recover/rec-0/deny", 404, "recoveryId"),
        ("DELETE", "/bots/nobody/quarantine", 404, "bot"),
        ("DELETE", f"/bots/{bot}/quarantine", 409, "bot"),
        ("GET", "/bots/nobody/explain", 404, "bot"),
    ]
    for method, path, status, name in calls:
        answer = await app.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.field) == (status, name), (path, answer)
