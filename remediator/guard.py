"""Who may ask: a bearer token on every path that is not listed as open."""

import hmac
from collections.abc import Container
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from remediator.errors import RequestError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class BearerToken:
    """ASGI middleware. Without a token everything is open, which the settings allow on loopback alone."""

    app: ASGIApp
    token: SecretStr | None
    open_paths: Container[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.token is None or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        known = self.token.get_secret_value().encode()
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), known):
            await self.app(scope, receive, send)
            return
        client = scope.get("client") or ("unknown", 0)
        log.warning("refused: no or wrong token", path=scope["path"], client=client[0])
        refusal = RequestError(
            401,
            "the bearer token is wrong" if given else "a bearer token is needed",
            field="Authorization",
            remedy="send the header Authorization: Bearer TOKEN, with the token this service was given",
        )
        response = JSONResponse(refusal.body(), 401, headers={"WWW-Authenticate": "Bearer"})
        await response(scope, receive, send)
