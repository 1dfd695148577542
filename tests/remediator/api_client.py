"""The remediator's API by a real client, and the payloads that Alertmanager sends to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from sandbox.process.waiting import wait_until

TOKEN = "api-token-1f7c"


@dataclass
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def field(self) -> str:
        """Return the field that a refusal names."""
        name: str = self.body["error"].get("field", "")
        return name


@dataclass
class Api:
    """The remediator's API, by a real client."""

    url: str
    session: aiohttp.ClientSession
    token: str = TOKEN

    async def call(self, method: str, path: str, payload: object = None, **options: Any) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": "application/json"} if "data" in options else {}
        headers |= options.pop("headers", {})
        if payload is not None:
            options["json"] = payload
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            is_json = response.content_type == "application/json"
            body = await response.json() if is_json else await response.text()
            return Answer(response.status, body, response.headers)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def post(self, path: str, payload: object) -> Answer:
        return await self.call("POST", path, payload)

    # what nearly every test does

    async def begin_deploy(self, bot: str, token: str = "42:telegram", kind: str = "support") -> Answer:
        wish = {"botName": bot, "botType": kind, "telegramToken": token, "environment": "staging"}
        return await self.post("/deploy", wish)

    async def deployed(self, *bots: str, kind: str = "support") -> None:
        """Deploy them, side by side, and wait until they are."""

        async def one(bot: str) -> None:
            answer = await self.begin_deploy(bot, kind=kind)
            assert answer.status == 202, answer
            ended = await self.until_ended(f"/deploy/{answer.body['deploymentId']}")
            assert ended["status"] == "deployed", ended

        await asyncio.gather(*map(one, bots))

    async def recover(self, bot: str, method: str = "restart", wait: float = 60) -> Any:
        """Ask for a recovery and wait for its end."""
        answer = await self.post(f"/recover/{bot}?wait={wait}", {"method": method})
        assert answer.status in (200, 202), answer
        return answer.body

    async def alert(self, *members: Mapping[str, Any], **rest: Any) -> list[str]:
        """POST /alerts; the ids of the recoveries that it concerned."""
        answer = await self.post("/alerts", webhook(*members, **rest))
        assert answer.status == 200, answer
        ids: list[str] = answer.body["recoveries"]
        return ids

    async def until_ended(self, path: str, timeout: float = 60) -> Any:
        async def ended() -> Any:
            view = await self.get(path)
            return view if view["finishedAt"] else None

        return await wait_until(ended, timeout, f"{path} ended")

    async def until_status(self, path: str, status: str, timeout: float = 30) -> Any:
        async def reached() -> Any:
            view = await self.get(path)
            return view if view["status"] == status else None

        return await wait_until(reached, timeout, f"{path} {status}")

    async def recoveries(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/dashboard"))["state"]["recoveries"]
        return found

    async def metric(self, sample: str) -> float | None:
        """Return the value of one sample, as `name{label="value"}`."""
        for line in (await self.get("/metrics")).splitlines():
            name, _, value = line.rpartition(" ")
            if name == sample:
                return float(value)
        return None


def firing(
    bot: str, *, name: str = "BotDown", starts_at: str = "2026-11-22T10:00:00.123456789Z", **labels: str
) -> dict[str, Any]:
    """Return a member of a payload, as Alertmanager sends it."""
    return {
        "status": "firing",
        "labels": {"alertname": name, "bot": bot, "remediation": "auto", "severity": "critical", **labels},
        "annotations": {"summary": f"{bot} is down"},
        "startsAt": starts_at,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus/graph",
        "fingerprint": f"{bot}-{name}"[:64],
    }


def resolved(member: Mapping[str, Any]) -> dict[str, Any]:
    return {**member, "status": "resolved", "endsAt": "2026-11-22T10:05:00Z"}


def webhook(*members: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Alertmanager's payload, version 4."""
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing" if any(one.get("status") == "firing" for one in members) else "resolved",
        "receiver": "remediator",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager",
        "alerts": list(members),
        **rest,
    }
