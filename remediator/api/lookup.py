"""What the API's functions share: the runtime behind a request, who sends it, and what it names."""

from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

from remediator.aws.errors import AwsError
from remediator.errors import Refused
from remediator.runtime import Runtime

T = TypeVar("T")


def runtime_of(request: Request) -> Runtime:
    """Return what the app has put there when it started."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def actor_of(request: Request, by: str = "") -> str:
    """Return the name for the audit trail: `by` where the request gives one, else the client's address."""
    return by or f"api:{request.client.host if request.client else 'unknown'}"


def not_found(field: str, value: str, remedy: str) -> Refused:
    """Return the refusal (unknown) of a request that names nothing there is."""
    return Refused("unknown", f"there is no {value[:80]!r}", field=field, remedy=remedy)


async def answered(call: Awaitable[T], field: str = "instanceId") -> T:
    """Return AWS's answer; raise Refused (unavailable) where it refuses or does not answer."""
    try:
        return await call
    except AwsError as error:
        raise Refused("unavailable", str(error), field=field, remedy=error.remedy) from None
