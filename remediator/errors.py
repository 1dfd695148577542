"""The one exception of this service: a request that cannot be done, said so that the asker can mend it."""

from collections.abc import Mapping


class RequestError(Exception):
    """Answered as `{"error": {"field", "message", "remedy"}}` with the HTTP status given."""

    def __init__(
        self, status: int, message: str, *, field: str = "", remedy: str = "", headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.remedy = status, message, field, remedy
        self.headers = headers

    def body(self) -> dict[str, dict[str, str]]:
        said = {"field": self.field, "message": self.message, "remedy": self.remedy}
        return {"error": {key: value for key, value in said.items() if value}}
