"""Requests made from /openapi.json, against the served service: valid ones, and wrong in every way.

Whatever is asked, the answer is one that the document announces, in the shape it announces, and never a fault
of the service's own; and without the token nothing is answered that needs it.
"""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

from remediator.api.openapi import document
from remediator.configuration.rendering import render
from remediator.settings import Settings
from remediator.store.store import Store
from templates import BUNDLED, load
from tests.remediator.conftest import QUICK, TOKEN, credentials, serve
from tests.remediator.engine.test_engine import bot

REGISTERED = ("forge", "atlas", "iris")  # bots that there are: else nearly all would be 404
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]
XML = '<?xml version="1.0"?><{0} xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{1}</{0}>'
NOTHING = "<reservationSet/><addressesSet/><volumeSet/><snapshotSet/>"
DENIED = (
    "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors>"
    "<RequestID>0</RequestID></Response>"
)

schema = schemathesis.openapi.from_dict(document())


@schema.hook
def map_path_parameters(_: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Make every third name that of a bot that there is."""
    for name, value in (parameters or {}).items():
        if parameters is not None and name in ("id", "bot") and len(str(value)) % 3 == 0:
            parameters[name] = REGISTERED[len(str(value)) % len(REGISTERED)]
    return parameters


@schema.hook
def map_query(_: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Make nothing wait: `watch` streams until the end, and `wait` is for minutes."""
    for name in ("watch", "wait"):
        if query is not None and query.get(name):
            query[name] = "0"
    return query


class Refusing(BaseHTTPRequestHandler):
    """An AWS in which there is nothing: it stores parameters, lists nothing, and refuses all else."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        target = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if target:
            allowed = target in ("PutParameter", "DeleteParameter")
            self._answer(200 if allowed else 400, "{}" if allowed else '{"__type": "AccessDeniedException"}')
        else:
            action = parse_qs(body).get("Action", [""])[0]
            listing = action.startswith("Describe")
            self._answer(
                200 if listing else 403, XML.format(f"{action}Response", NOTHING) if listing else DENIED
            )

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the service in a thread of its own, with three bots; yield its URL."""
    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as aws:
        for name, value in credentials().items():
            patch.setenv(name, value)
        answering = threading.Thread(target=aws.serve_forever, daemon=True)
        answering.start()
        folder = tmp_path_factory.mktemp("fuzz")
        loop = asyncio.new_event_loop()
        url: asyncio.Future[str] = loop.create_future()
        stopping = asyncio.Event()
        serving = threading.Thread(
            target=loop.run_until_complete, args=(_serve(folder, aws.server_port, url, stopping),)
        )
        serving.start()
        try:
            yield asyncio.run_coroutine_threadsafe(_wait(url), loop).result(60)
        finally:
            loop.call_soon_threadsafe(stopping.set)
            serving.join()
            loop.close()
            aws.shutdown()
            answering.join()


async def _wait(url: "asyncio.Future[str]") -> str:
    return await url


async def _serve(folder: Path, aws: int, url: "asyncio.Future[str]", stopping: asyncio.Event) -> None:
    database = f"sqlite:///{folder / 'remediator.db'}"
    store = await Store.open(database)
    async with store.write() as tx:
        for name in REGISTERED:
            config, sha = render(name, "staging", load(BUNDLED).get("support", "staging"))
            await tx.add_bot(bot(name, config=config, config_sha=sha))
    await store.close()
    own = {"aws_endpoint_url": f"http://127.0.0.1:{aws}", "database_url": database, "token": TOKEN}
    async with serve(Settings(**{**QUICK, **own, "probe_timeout": 0.1})) as api:
        url.set_result(api.url)
        await stopping.wait()


@schema.parametrize()
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_answer_is_one_that_the_document_announces(case: schemathesis.Case[Any], url: str) -> None:
    case.call_and_validate(
        base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}, checks=CHECKS, timeout=30
    )
