"""The exceptions that every package may raise: a request that is refused, and a fault outside of us."""

from typing import Final, Literal

Kind = Literal["unknown", "conflict", "invalid", "unavailable"]
# unknown: what it names is not there; conflict: it is at odds with how things are now; invalid: it is
# wrong in itself; unavailable: AWS, which it needs, refuses or does not answer.


def first_line(error: BaseException) -> str:
    """Return an error's first line, for the log; its name where it says nothing, as a timeout does."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class ExternalError(Exception):
    """A fault of something outside of this service: where we were in our own code says nothing."""


class Refused(Exception):  # noqa: N818 -- no fault of ours: an answer, and in places a value
    """A request that is not carried out. The API answers each `kind` with a status of its own."""

    def __init__(self, kind: Kind, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.kind: Final = kind
        self.message, self.field, self.remedy = message, field, remedy
