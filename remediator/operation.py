"""One call of the API, as the routes and `/openapi.json` are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Operation:
    """`access`: who may call without the token. `answers`: status → (what it means, its shape)."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handler: str
    answers: Mapping[int, tuple[str, Any]]
    access: Literal["token", "open", "metrics"] = "token"
    body: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)  # name → meaning


TEXT: Final = str
BINARY: Final = bytes
ANY: Final = dict[str, Any]
