"""`create_app(settings)`: the service as one declaration."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from remediator import runtime
from remediator.api.auth.middleware import BearerToken, Names, RequestFilter
from remediator.api.errors import RequestError
from remediator.api.openapi import OPERATIONS, document
from remediator.errors import Refused, first_line
from remediator.settings import Settings, SettingsError
from remediator.store.errors import StoreError, UnstorableError

log = structlog.get_logger()


def create_app(settings: Settings) -> Starlette:
    """Return the service, which runs from the application's startup to its shutdown.

    SettingsError where there is no token.
    """
    if settings.token is None:
        raise SettingsError("BOT_REMEDIATOR_TOKEN: there is no token, and nothing is served without one")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with runtime.run(settings) as app.state.runtime:
            yield

    open_paths = {operation.path for operation in OPERATIONS if operation.access == "open"}
    if settings.metrics_are_open:
        open_paths |= {operation.path for operation in OPERATIONS if operation.access == "metrics"}
    return Starlette(
        routes=[
            *(
                Route(operation.path, operation.endpoint, methods=[operation.method])
                for operation in OPERATIONS
            ),
            Route("/openapi.json", _openapi),
        ],
        middleware=[
            Middleware(RequestFilter, names=Names.of(settings)),
            Middleware(BearerToken, token=settings.token, open_paths=open_paths),
        ],
        exception_handlers={
            Refused: _answer_refused,
            RequestError: _answer_request_error,
            HTTPException: _answer_http_exception,
            StoreError: _answer_store_error,
            UnstorableError: _answer_unstorable,
        },
        lifespan=lifespan,
    )


def begin_shutdown(app: Starlette) -> None:
    """Answer now whatever waits for a run: the service is about to stop."""
    running: runtime.Runtime | None = getattr(app.state, "runtime", None)
    if running is not None:
        running.engine.begin_shutdown()


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())


async def _answer_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101 -- registered for nothing else
    return RequestError.of(error).response()


async def _answer_request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 -- registered for nothing else
    return error.response()


async def _answer_http_exception(_: Request, error: Exception) -> Response:
    """Answer a path or a method that there is not as any other refusal."""
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for nothing else
    remedy, headers = "GET /openapi.json lists every call", error.headers or {}
    return RequestError(
        error.status_code, error.detail, field="path", remedy=remedy, headers=headers
    ).response()


async def _answer_unstorable(request: Request, error: Exception) -> Response:
    """Answer 422: what no column takes now, none will take later."""
    log.warning("a value cannot be kept", path=request.url.path, error=first_line(error))
    remedy = "send shorter texts, smaller numbers, and no U+0000; this service's log says what is wrong"
    return RequestError(
        422, "a value of the request cannot be kept", field="request", remedy=remedy
    ).response()


async def _answer_store_error(request: Request, error: Exception) -> Response:
    """Answer 503, which Alertmanager retries: what cannot be kept was not accepted."""
    log.error("the store failed", path=request.url.path, error=first_line(error))
    return RequestError(
        503,
        "the store cannot be used",
        remedy="see this service's log; it may be a full disk",
        headers={"Retry-After": "10"},
    ).response()
