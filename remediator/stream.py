"""Server-sent events: what there is to see of a run, whenever it changes, until it ends.

It looks at the store, so it does not matter which replica drives the run.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import StreamingResponse

POLL: Final = 0.5  # seconds between two looks
SILENCE: Final = 15.0  # seconds after which a comment says that the line still stands

View = Mapping[str, Any]
Look = Callable[[], Awaitable[View]]


def watch(look: Look, leaving: Callable[[], bool]) -> StreamingResponse:
    """Streams until the run has ended, whoever watches goes away, or the service is `leaving`."""
    return StreamingResponse(
        events(look, leaving),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def events(
    look: Look, leaving: Callable[[], bool], *, poll: float = POLL, silence: float = SILENCE
) -> AsyncIterator[bytes]:
    """`step` when one begins or ends, `progress` when the percentage moves, `end` last of all.

    Each carries the whole view, so that whoever has missed one has missed nothing.
    """
    loop = asyncio.get_running_loop()
    steps: Any = None
    percent: Any = None
    told_at = loop.time()
    while not leaving():
        try:
            view = await look()
        except SQLAlchemyError:
            return  # whoever watches asks again, and is answered as the store is then
        if view["finishedAt"] is not None:
            yield event("end", view)
            return
        made = [
            (one.get("name") or one.get("bot"), one["status"]) for one in view.get("steps") or view["bots"]
        ]
        name = "step" if made != steps else "progress" if view["percent"] != percent else ""
        if name:
            steps, percent, told_at = made, view["percent"], loop.time()
            yield event(name, view)
        elif loop.time() - told_at >= silence:
            told_at = loop.time()
            yield b": still there\n\n"
        await asyncio.sleep(poll)


def event(name: str, data: View) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
