"""The queries of the dashboards' panels, asked as Grafana asks them."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from dashboards.__main__ import GENERATED, ROOT
from sandbox.stack.stack import Stack


@dataclass(frozen=True, slots=True)
class Question:
    """A query of a panel or an annotation, as Grafana sends it."""

    name: str
    expr: str
    instant: bool


def questions(one: str, interval: str = "15s", boards: str = "*") -> Iterator[Question]:
    """Yield every query of the dashboards; `one`: the bot whose page it is, `interval`: four scrapes."""
    for path in sorted((ROOT / GENERATED).glob(f"{boards}.json")):
        board = json.loads(path.read_text())
        bot = one if board["uid"] == "bot-detail" else ".*"
        chosen = {
            "__rate_interval": interval,
            "__range": "5m",
            "environment": ".*",
            "template": ".*",
            "bot": bot,
        }

        def sent(expr: str, chosen: dict[str, str] = chosen) -> str:
            return re.sub(r"\$(\w+)", lambda match: chosen[match[1]], expr)

        for annotation in board["annotations"]["list"]:
            yield Question(f"{path.stem}: {annotation['name']}", sent(annotation["expr"]), instant=False)
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                yield Question(name, sent(target["expr"]), target["instant"])


async def shows(stack: Stack, question: Question, since: float) -> bool:
    """Return whether the panel has a series: now where the panel asks for now, else at any time since."""
    if question.instant:
        return bool(await stack.query(question.expr))
    span = {"start": str(since), "end": str(time.time()), "step": "1"}
    url = f"{stack.prometheus_url}/api/v1/query_range"
    async with stack.session.post(url, data={"query": question.expr, **span}) as response:
        answer = await response.json()
    assert answer["status"] == "success", f"{question.name}: {answer}"
    return bool(answer["data"]["result"])


async def look(stack: Stack, waiting: set[Question], since: float) -> None:
    """Ask again and again, for what is now may be gone soon; strike out what was answered."""
    while waiting:
        for question in sorted(waiting, key=lambda question: not question.instant):
            if await shows(stack, question, since):
                waiting.discard(question)
        await asyncio.sleep(0.2)
