"""The remediator's API over HTTP, with what Python brings along.

No redirect is followed and no proxy is asked: either would carry the token to somebody else.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from botctl.errors import BotctlError, Exit, RefusedError, UnreachableError

TIMEOUT: Final = 30.0  # seconds for an answer to begin
LONGEST_SILENCE: Final = 60.0  # of a stream of events


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with its whole body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body; BotctlError where it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise BotctlError("the answer is no JSON", "see that --url names a remediator") from None


@dataclass(frozen=True, slots=True)
class Client:
    """Calls the API at `url`. `patience`: seconds for an answer to begin."""

    url: str
    token: str = ""
    patience: float = TIMEOUT

    def get(self, path: str, **query: object) -> Answer:
        return self.call("GET", path, query=query)

    def post(self, path: str, payload: Mapping[str, Any], *, patience: float | None = None) -> Answer:
        return self.call("POST", path, payload, patience=patience)

    def call(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        patience: float | None = None,
    ) -> Answer:
        """Return a 2xx answer; raise RefusedError for any other, UnreachableError where none comes."""
        with self.open(method, path, payload, query=query, patience=patience) as response:
            return Answer(response.status, response.read())

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        accept: str = "application/json",
        patience: float | None = None,
    ) -> Iterator[HTTPResponse]:
        """Yield the answer before its body is read; a fault while it is read is an UnreachableError, too."""
        connection, prefix = self._connection(patience or self.patience)
        parameters = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        target = prefix + path + (f"?{urlencode(parameters)}" if parameters else "")
        headers = {"Accept": accept, "Connection": "close"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        body = None
        if payload is not None:
            body = json.dumps(payload).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            if not 200 <= response.status < 300:
                raise _refusal(f"{method} {path}", response.status, response.read())
            yield response
        except (OSError, HTTPException) as error:
            raise UnreachableError(
                f"{self.url} cannot be reached: {_reason(error)}",
                "see that the remediator runs there; name another with --url or BOTCTL_URL",
            ) from None
        finally:
            connection.close()

    def _connection(self, patience: float) -> tuple[HTTPConnection, str]:
        remedy = "give it as http://HOST:PORT (--url or BOTCTL_URL)"
        try:
            parts = urlsplit(self.url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or parts.scheme not in ("http", "https"):
            raise BotctlError(f"{self.url!r} is no URL of a service", remedy, Exit.usage)
        prefix = parts.path.rstrip("/")
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return HTTPSConnection(host, port, timeout=patience, context=context), prefix
        return HTTPConnection(host, port, timeout=patience), prefix


def segment(value: str) -> str:
    """Quote a name as one part of a path, whatever is in it."""
    return quote(value, safe="")


def _refusal(call: str, status: int, body: bytes) -> RefusedError:
    try:
        error = json.loads(body)["error"]
        fields = {key: str(value) for key, value in error.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        fields = {}
    return RefusedError(call, status, body, fields)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
