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
        # A name out of a request may hold a lone surrogate, which JSON can spell and UTF-8 cannot.
        return {"error": {key: _printable(value) for key, value in said.items() if value}}


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
