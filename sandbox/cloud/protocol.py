"""AWS on the wire: requests, errors, and the faults injected between the two."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from werkzeug import Response

from sandbox.cloud.faults import ApiFaultKind

SERVER_ERRORS = {"InternalError": 500, "InternalFailure": 500, "Unavailable": 503, "ServiceUnavailable": 503}
SERVER_ERRORS |= {"RequestLimitExceeded": 503, "InsufficientInstanceCapacity": 500}
SERVER_ERRORS |= {"UnauthorizedOperation": 403}


class AwsError(Exception):
    """An answer with an AWS error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `params` are a query protocol's form fields or a JSON protocol's document."""

    service: str
    region: str
    action: str
    params: Mapping[str, Any]
    environ: dict[str, Any]

    @classmethod
    def read(cls, environ: dict[str, Any]) -> Call:
        """Read a request, and put the body back for the next reader."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].partition(",")[0].split("/")
        region, service = (scope[2], scope[3]) if len(scope) == 5 else ("", "")
        if service == "s3":  # REST: the action is the method, on a bucket or on an object
            bucket, _, key = environ["PATH_INFO"].strip("/").partition("/")
            action = environ["REQUEST_METHOD"].title() + ("Object" if key else "Bucket")
            return cls(service, region, action, {"Bucket": bucket, "Key": key}, environ)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target:
            return cls(service, region, target.rpartition(".")[2], json.loads(body or b"{}"), environ)
        params = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return cls(service, region, params.get("Action", ""), params, environ)


Forward = Callable[[Call], Response]
"""Hand the call on to moto."""


@dataclass(frozen=True, slots=True)
class ApiFault:
    """A fault that the next `times` calls meet; `seconds` is the delay."""

    how: ApiFaultKind
    code: str
    message: str
    seconds: float
    times: int


class ApiFaults:
    """Faults to come, by action: the first `times` calls of that action meet it."""

    def __init__(self) -> None:
        self._faults: dict[str, list[ApiFault]] = {}
        self._lock = threading.Lock()

    def add(self, action: str, fault: ApiFault) -> None:
        with self._lock:
            self._faults.setdefault(action, []).append(fault)

    def take(self, action: str) -> ApiFault | None:
        """Return the fault that a call of the action meets now, if any."""
        with self._lock:
            waiting = self._faults.get(action)
            if not waiting:
                return None
            fault = waiting.pop(0)
            if fault.times > 1:
                waiting.insert(0, replace(fault, times=fault.times - 1))
            return fault


class Protocol:
    """The WSGI application: a table of our own actions, and moto for the rest."""

    def __init__(
        self,
        moto: Callable[..., Iterable[bytes]],
        actions: Mapping[tuple[str, str], Callable[[Call, Forward], Response]],
        faults: ApiFaults,
        authorize: Callable[[Call], None] = lambda _: None,
    ) -> None:
        """Serve `actions`, keyed by (service, action). `authorize` raises AwsError on a call not allowed."""
        self._moto = moto
        self._authorize = authorize
        self._actions = actions
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        call = Call.read(environ)
        fault = self._faults.take(call.action)
        if fault is not None and fault.how == "delay":
            time.sleep(fault.seconds)
        if fault is not None and fault.how == "refuse":
            response = error_response(call, AwsError(fault.code, fault.message))
        else:
            response = self._answer(call)
        if fault is not None and fault.how == "lose_answer":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError("the answer is lost")  # tells werkzeug that nobody is there to answer
        return response(environ, start_response)

    def _answer(self, call: Call) -> Response:
        handler = self._actions.get((call.service, call.action))
        try:
            self._authorize(call)
            return handler(call, self._forward) if handler else self._forward(call)
        except AwsError as error:
            return error_response(call, error)

    def _forward(self, call: Call) -> Response:
        return Response.from_app(self._moto, call.environ)


def json_response(payload: Mapping[str, Any], status: int = 200) -> Response:
    """Render an answer of a JSON protocol."""
    return Response(json.dumps(payload), status, content_type="application/x-amz-json-1.1")


def error_response(call: Call, error: AwsError) -> Response:
    """Render the error as the service of the call does."""
    status = SERVER_ERRORS.get(error.code, 400)
    if call.service == "ssm":
        return json_response({"__type": error.code, "message": error.message}, status)
    if call.service == "s3":
        text = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
        return Response(text, 403 if error.code == "AccessDenied" else status, content_type="text/xml")
    return Response(
        f"<Response><Errors><Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>",
        status,
        content_type="text/xml",
    )
