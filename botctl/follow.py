"""Follows a run to its end: by the service's events, and by asking again where there are none.

A run goes on whatever happens to the service or to the line: one that is away for a while is waited for.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPResponse
from typing import Any, Final

from botctl.client import LONGEST_SILENCE, Client
from botctl.errors import UnreachableError

INTERVAL: Final = 1.0  # seconds between two questions
LONGEST_ABSENCE: Final = 60.0  # seconds a service may be away, as in a restart

View = dict[str, Any]


def ended(view: Mapping[str, Any]) -> bool:
    """Return whether the run is over."""
    return view.get("finishedAt") is not None


def follow(
    client: Client,
    path: str,
    *,
    timeout: float,
    events: bool = True,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[View]:
    """Yield every view that is news, until the run's end or `timeout` seconds from now."""
    deadline = monotonic() + timeout
    last: View | None = None
    away_since: float | None = None
    while monotonic() < deadline:
        try:
            for view in _views(client, path, events):
                away_since = None
                if view != last:
                    yield view
                last = view
                if ended(view) or monotonic() >= deadline:
                    return
        except UnreachableError:
            away_since = monotonic() if away_since is None else away_since
            if last is None or monotonic() - away_since > LONGEST_ABSENCE:
                raise
            events = False  # the line does not carry them, or the service has just begun anew
        sleep(min(INTERVAL, max(0.0, deadline - monotonic())))


def _views(client: Client, path: str, events: bool) -> Iterator[View]:
    """Yield the views of one call: many by events, or one."""
    if not events:
        yield client.get(path).json()
        return
    accept = "text/event-stream, application/json"
    with client.open(
        "GET", path, query={"watch": "true"}, accept=accept, patience=LONGEST_SILENCE
    ) as response:
        if response.headers.get_content_type() == "text/event-stream":
            yield from (view for view in map(json.loads, data(response)) if isinstance(view, dict))
        else:  # it knows no events
            yield json.loads(response.read())


def data(response: HTTPResponse | Iterator[bytes]) -> Iterator[str]:
    """Yield the data of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    lines: list[str] = []
    for raw in response:
        line = raw.decode().rstrip("\r\n")
        if not line and lines:
            yield "\n".join(lines)
            lines = []
        name, _, value = line.partition(":")
        if name == "data":
            lines.append(value.removeprefix(" "))
