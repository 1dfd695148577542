"""A stand-in for a provider of models: Anthropic's Messages API over HTTP, in this process.

It answers every model that it is asked for, whole or as a stream, and tells the tokens that it counted.
docs.anthropic.com/en/api/messages, /en/api/errors
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp import web

from sandbox.stack.listening import listening

FaultKind = Literal["rate_limit", "overloaded", "auth", "billing", "model_not_found", "hang"]
"""hang: it takes the request and says nothing. The others are answers of the API."""

ERRORS: Final[Mapping[str, tuple[int, str, str]]] = {  # status, type, message; {model} is what was asked for
    "rate_limit": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 50 requests per minute.",
    ),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "billing": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade "
        "or purchase credits.",
    ),
    "model_not_found": (404, "not_found_error", "model: {model}"),
}
INPUT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = 1200, 300, 40  # of every answer; input without the cached
REPLY: Final = "All is well here."
EVERY_MODEL: Final = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of a bot, and the fault that it met, if any."""

    at: float  # unix seconds
    model: str
    stream: bool
    fault: FaultKind | None


class ModelProvider:
    """The URL of the stand-in, every request so far, and the faults that it shows."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Request] = []
        self._faults: dict[str, FaultKind] = {}
        self._mended = asyncio.Event()

    def fail(self, kind: FaultKind, model: str = EVERY_MODEL) -> None:
        """Let requests for the model fail from now on; without a name those for all."""
        self._faults[model] = kind

    def mend(self) -> None:
        """End every fault; requests that hang are answered."""
        self._faults.clear()
        self._mended.set()
        self._mended = asyncio.Event()

    def served(self, model: str = EVERY_MODEL) -> int:
        """Return how many requests were answered well, of the model or of all."""
        return sum(not r.fault and model in (EVERY_MODEL, r.model) for r in self.requests)

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """Answer POST /v1/messages."""
        body = await request.json()
        model, stream = str(body["model"]), bool(body.get("stream"))
        fault = self._faults.get(model) or self._faults.get(EVERY_MODEL)
        self.requests.append(Request(time.time(), model, stream, fault))
        if fault == "hang":
            await self._mended.wait()
        elif fault is not None:
            status, kind, text = ERRORS[fault]
            return web.json_response(
                {"type": "error", "error": {"type": kind, "message": text.format(model=model)}},
                status=status,
            )
        if not stream:
            content = [{"type": "text", "text": REPLY}]
            return web.json_response({**_head(model), "content": content, **_ended(), "usage": _usage()})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events(model):
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response


def events(model: str) -> Iterator[dict[str, Any]]:
    """Yield what a streamed answer consists of."""
    begun = {**_usage(), "output_tokens": 1}
    message = {**_head(model), "content": [], "stop_reason": None, "stop_sequence": None, "usage": begun}
    yield {"type": "message_start", "message": message}
    yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    for word in REPLY.split(" "):
        text = word if word == REPLY.split(" ")[0] else f" {word}"
        yield {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": _ended(), "usage": {"output_tokens": OUTPUT_TOKENS}}
    yield {"type": "message_stop"}


def _head(model: str) -> dict[str, Any]:
    return {"id": f"msg_{time.time_ns()}", "type": "message", "role": "assistant", "model": model}


def _ended() -> dict[str, Any]:
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage() -> dict[str, int]:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": CACHED_TOKENS}
    return {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, **cached}


@asynccontextmanager
async def run_model_provider() -> AsyncIterator[ModelProvider]:
    """Run the stand-in on a free port, in this process."""
    provider = ModelProvider()
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/v1/messages", provider.messages)
    async with listening(app, shutdown_timeout=0.1) as provider.url:  # what hangs does not keep us
        yield provider
