"""The one exception of this service: a request that cannot be done, said so that the asker can mend it."""

from collections.abc import Mapping


def first_line(error: BaseException) -> str:
    """What it says, for a line of the log; its name where it says nothing, as a timeout does."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


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
