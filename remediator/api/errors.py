"""Errors as the API answers them: `{"error": {"field", "message", "remedy"}}` and a status."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse

from remediator.errors import Kind, Refused

STATUSES: Final[Mapping[Kind, int]] = {"unknown": 404, "conflict": 409, "invalid": 422, "unavailable": 502}


class RequestError(Exception):
    """A request that fails at HTTP itself, before anything else is asked: its token, size or JSON."""

    def __init__(
        self, status: int, message: str, *, field: str = "", remedy: str = "", headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.remedy = status, message, field, remedy
        self.headers = headers

    @classmethod
    def of(cls, refused: Refused) -> "RequestError":
        """Return the answer to a request that was refused."""
        status = STATUSES[refused.kind]
        return cls(status, refused.message, field=refused.field, remedy=refused.remedy)

    def body(self) -> dict[str, dict[str, str]]:
        """Return the answer's JSON; what is empty is not in it."""
        fields = {"field": self.field, "message": self.message, "remedy": self.remedy}
        return {"error": {key: value for key, value in fields.items() if value}}

    def response(self) -> JSONResponse:
        """Return the answer."""
        return JSONResponse(self.body(), self.status, headers=dict(self.headers))
