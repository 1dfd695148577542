"""One call of the API: its route and its entry in `/openapi.json` are made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """`endpoint`: its name is the operation's id, its docstring the summary.

    `answers`: status → (what it means, its shape). `access`: whether it takes the token; "metrics": not where
    `Settings.metrics_are_open`.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    endpoint: Endpoint
    answers: Mapping[int, tuple[str, Any]]
    access: Literal["token", "open", "metrics"] = "token"
    body: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)  # name → meaning

    @property
    def name(self) -> str:
        """Return its `operationId`."""
        return self.endpoint.__name__

    @property
    def summary(self) -> str:
        """Return what it does, in words."""
        return (self.endpoint.__doc__ or "").strip()


TEXT: Final = str
BINARY: Final = bytes
ANY: Final = dict[str, Any]
