"""Server-sent events: the view of a run, whenever it changes, until the run ends.

The view is read from the store, so it does not matter which replica drives the run.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.responses import StreamingResponse

from remediator.store.errors import StoreError

POLL_INTERVAL: Final = 0.5  # seconds
KEEPALIVE_INTERVAL: Final = 15.0  # seconds after which a comment says that the connection still stands

View = Mapping[str, Any]
ReadView = Callable[[], Awaitable[View]]


def watch(read_view: ReadView, leaving: Callable[[], bool]) -> StreamingResponse:
    """Stream until the run has ended, the client goes away, or the service is `leaving`."""
    return StreamingResponse(
        events(read_view, leaving),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def events(
    read_view: ReadView,
    leaving: Callable[[], bool],
    *,
    poll: float = POLL_INTERVAL,
    keepalive: float = KEEPALIVE_INTERVAL,
) -> AsyncIterator[bytes]:
    """Yield `step` when one begins or ends, `progress` when the percentage moves, `end` last of all.

    Each carries the whole view, so that a client which has missed one has missed nothing.
    """
    loop = asyncio.get_running_loop()
    steps: Any = None
    percent: Any = None
    sent_at = loop.time()
    while not leaving():
        try:
            view = await read_view()
        except StoreError:
            return  # the client connects again, and is answered as the store is then
        if view["finishedAt"] is not None:
            yield event("end", view)
            return
        current = _steps(view)
        name = "step" if current != steps else "progress" if view["percent"] != percent else ""
        if name:
            steps, percent, sent_at = current, view["percent"], loop.time()
            yield event(name, view)
        elif loop.time() - sent_at >= keepalive:
            sent_at = loop.time()
            yield b": still there\n\n"
        await asyncio.sleep(poll)


def _steps(view: View) -> list[tuple[str, str]]:
    """Return the name and status of each step of a deployment, or of each bot of a rollout."""
    items = view.get("steps") or view["bots"]
    return [(item.get("name") or item.get("bot"), item["status"]) for item in items]


def event(name: str, data: View) -> bytes:
    """Return one event as it goes over the wire."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
