"""`create_app(settings)`: the service as one declaration."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from remediator.api import Api
from remediator.errors import RequestError, first_line
from remediator.guard import BearerToken
from remediator.openapi import OPERATIONS, document
from remediator.operation import Operation
from remediator.scaler import run_scaler
from remediator.services import run_services
from remediator.settings import Settings

log = structlog.get_logger()


def create_app(settings: Settings) -> Starlette:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with run_services(settings) as services, run_scaler(services):
            app.state.api = Api(services)
            yield

    open_paths = {operation.path for operation in OPERATIONS if operation.access == "open"}
    if settings.open_metrics:
        open_paths |= {operation.path for operation in OPERATIONS if operation.access == "metrics"}
    return Starlette(
        routes=[
            *(Route(one.path, _endpoint(one), methods=[one.method]) for one in OPERATIONS),
            Route("/openapi.json", _openapi),
        ],
        middleware=[Middleware(BearerToken, token=settings.token, open_paths=open_paths)],
        exception_handlers={
            RequestError: _refuse,
            HTTPException: _refuse_http,
            SQLAlchemyError: _store_is_broken,
        },
        lifespan=lifespan,
    )


def _endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def call(request: Request) -> Response:
        answer: Response = await getattr(request.app.state.api, operation.handler)(request)
        return answer

    return call


async def _openapi(_: Request) -> Response:
    return JSONResponse(document())


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # noqa: S101 -- registered for nothing else
    return JSONResponse(error.body(), error.status, headers=dict(error.headers))


async def _refuse_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for nothing else
    remedy = "GET /openapi.json lists every call"
    refusal = RequestError(error.status_code, error.detail, field="path", remedy=remedy)
    return JSONResponse(refusal.body(), error.status_code, headers=error.headers)


async def _store_is_broken(request: Request, error: Exception) -> Response:
    """503, which Alertmanager retries: what cannot be kept was not accepted."""
    log.error("the store failed", path=request.url.path, error=first_line(error))
    refusal = RequestError(
        503, "the store cannot be used", remedy="see this service's log; it may be a full disk"
    )
    return JSONResponse(refusal.body(), 503, headers={"Retry-After": "10"})
