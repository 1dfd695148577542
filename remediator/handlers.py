"""What every group of HTTP calls stands on. A group is a class of its own; `Api` is all of them."""

from dataclasses import dataclass

from starlette.requests import Request

from remediator.errors import RequestError
from remediator.services import Services


def actor_of(request: Request) -> str:
    return f"api:{request.client.host if request.client else 'unknown'}"


def unknown(field: str, value: str, remedy: str) -> RequestError:
    return RequestError(404, f"there is no {value[:80]!r}", field=field, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Handlers:
    """Has no fields but this one, so that groups can be joined."""

    services: Services
