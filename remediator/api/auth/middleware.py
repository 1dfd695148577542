"""Refuses, first, what a page in a browser could have sent; then, what has no token.

A page can send requests to every address that its browser reaches, this service's too. It can choose neither
their Origin nor their Host, and no JSON content type without leave, which nobody gives here.
"""

import hmac
import re
import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from remediator.api.errors import RequestError
from remediator.logs import LogLimiter
from remediator.settings import Settings

JSON: Final = "application/json"
_AUTHORITY: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?)(?::[0-9]{1,5})?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Names:
    """What this service is called. `hosts`: lower case, without ports. `origin`: of its own pages."""

    hosts: frozenset[str] = frozenset()
    origin: str = ""

    @classmethod
    def of(cls, settings: Settings) -> "Names":
        """Return the names by the address to listen on, the allowed hosts and the public URL."""
        public = urlsplit(settings.public_url)
        hosts = {settings.listen[0].lower(), *settings.allowed_hosts, public.hostname or ""}
        port = "" if public.port in (None, _DEFAULT_PORTS.get(public.scheme)) else f":{public.port}"
        host = f"[{public.hostname}]" if ":" in (public.hostname or "") else public.hostname
        return cls(frozenset(hosts - {""}), f"{public.scheme}://{host}{port}" if public.hostname else "")


def find_fault(method: str, headers: Headers, http_version: str, names: Names) -> RequestError | None:
    """Return what is wrong with a request, whoever sent it; None where nothing is."""
    return (
        _fault_of_host(headers, http_version, names)
        or _fault_of_origin(method, headers, names)
        or _fault_of_body(headers)
    )


def _fault_of_host(headers: Headers, http_version: str, names: Names) -> RequestError | None:
    """Refuse a name that is not ours: its owner may make it lead here (DNS rebinding). An address cannot."""
    authorities = headers.getlist("host")
    if not authorities and http_version == "1.0":  # of a load balancer's probe; a browser always sends one
        return None
    host = host_of(authorities[0]) if len(authorities) == 1 else None
    if host is None:
        remedy = "send one header Host, with the address of this service or its name"
        return RequestError(421, "it names no host, or several", field="Host", remedy=remedy)
    if host == "localhost" or host in names.hosts or _is_address(host):
        return None
    listed = ",".join([*sorted(name for name in names.hosts if not _is_address(name)), host])
    return RequestError(
        421,
        f"{host[:80]!r} is no name of this service",
        field="Host",
        remedy="ask by its address; or, if that is its name, start it with "
        f"BOT_REMEDIATOR_ALLOWED_HOSTS={listed}",
    )


def host_of(authority: str) -> str | None:
    """Return the host of HOST or HOST:PORT: lower case, without brackets. None where it is neither."""
    match = _AUTHORITY.fullmatch(authority.lower())
    return (match[1] or match[2]) if match else None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _fault_of_origin(method: str, headers: Headers, names: Names) -> RequestError | None:
    """Refuse another site's page. Browsers alone say so: fetch.spec.whatwg.org, w3.org/TR/fetch-metadata."""
    authority = headers.get("host", "").lower()
    ours = {f"http://{authority}", f"https://{authority}", names.origin}
    remedy = "no page of another site may ask; use botctl or curl, which send no such header"
    for origin in headers.getlist("origin"):
        if origin.lower() not in ours - {""}:
            return RequestError(403, "the request is another site's", field="Origin", remedy=remedy)
    sites = headers.getlist("sec-fetch-site")
    if all(site in ("same-origin", "none") for site in sites) or _is_link(method, headers):
        return None
    return RequestError(403, "the request is another site's", field="Sec-Fetch-Site", remedy=remedy)


def _is_link(method: str, headers: Headers) -> bool:
    """Return whether a person followed one, as Prometheus has to /metrics: no page sees the answer."""
    mode, destination = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return method in ("GET", "HEAD") and (mode, destination) == ("navigate", "document")


def _fault_of_body(headers: Headers) -> RequestError | None:
    """Refuse what forms, and scripts of other sites without leave, send: text/plain and the like."""
    if "transfer-encoding" not in headers and not headers.get("content-length", "").strip("0 "):
        return None
    types = [value.partition(";")[0].strip().lower() for value in headers.getlist("content-type")]
    if types == [JSON]:
        return None
    fault = f"is {types[0][:80]!r}" if types else "is missing"
    remedy = f"send JSON, and the header Content-Type: {JSON}"
    return RequestError(415, f"the type of the body {fault}", field="Content-Type", remedy=remedy)


@dataclass(frozen=True, slots=True)
class _Refusals:
    """Answers, and a line in the log for the first few of a kind each minute."""

    _lines: LogLimiter = field(default_factory=LogLimiter)
    _clock: Callable[[], float] = time.monotonic

    async def answer(self, refusal: RequestError, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the refusal, and log it."""
        if self._lines.allow(refusal.field, self._clock()):
            client = scope.get("client") or ("unknown", 0)
            log.warning(
                "refused",
                status=refusal.status,
                field=refusal.field,
                why=refusal.message,
                path=scope["path"],
                client=client[0],
            )
        await refusal.response()(scope, receive, send)


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """ASGI middleware, before all others: Host, Origin and Content-Type of every request."""

    app: ASGIApp
    names: Names
    refusals: _Refusals = field(default_factory=_Refusals)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            fault = find_fault(scope["method"], headers, scope["http_version"], self.names)
            if fault is not None:
                await self.refusals.answer(fault, scope, receive, send)
                return
        await self.app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class BearerToken:
    """ASGI middleware: the token on every path that is not listed as open."""

    app: ASGIApp
    token: SecretStr
    open_paths: Container[str]
    refusals: _Refusals = field(default_factory=_Refusals)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self.open_paths:
            await self.app(scope, receive, send)
            return
        scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        expected = self.token.get_secret_value().encode()
        if scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected):
            await self.app(scope, receive, send)
            return
        refusal = RequestError(
            401,
            "the bearer token is wrong" if token else "a bearer token is needed",
            field="Authorization",
            remedy='send it, as curl -H "Authorization: Bearer $(cat FILE)" does; '
            "this service's log says at its start which FILE",
            headers={"WWW-Authenticate": "Bearer"},
        )
        await self.refusals.answer(refusal, scope, receive, send)
