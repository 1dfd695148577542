"""How botctl ends: exit codes, and errors with their remedies."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import click


class Exit(IntEnum):
    """Exit codes. `meaning` is what `--help` says of each."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "Exit":
        member = int.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member

    done = 0, "done"
    failed = 1, "refused by the service, or it ended badly"
    usage = 2, "wrong usage"
    unreachable = 3, "the service cannot be reached, or cannot serve now"
    unauthorised = 4, "the token is missing or wrong"
    unknown = 5, "no such bot, run, version or call"
    waiting = 6, "still under way when --timeout was over"
    interrupted = 130, "interrupted; what was begun goes on in the service"


class BotctlError(click.ClickException):
    """Shown on stderr as what is wrong and what can be done; ends botctl with `code`."""

    def __init__(self, message: str, remedy: str = "", code: Exit = Exit.failed) -> None:
        super().__init__(message)
        self.remedy, self.code = remedy, code

    def show(self, file: Any = None) -> None:
        """Print the message and the remedy on stderr."""
        click.echo(f"botctl: {self.message}", file=file, err=True)
        if self.remedy:
            click.echo(f"  → {self.remedy}", file=file, err=True)


class UnreachableError(BotctlError):
    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy, Exit.unreachable)


class RefusedError(BotctlError):
    """The service refused. `body`: its answer, as it came."""

    def __init__(self, call: str, status: int, body: bytes, error: Mapping[str, str]) -> None:
        self.status, self.body, self.field = status, body, error.get("field", "")
        message = error.get("message") or f"{call} was answered with {status}"
        remedy = error.get("remedy", "")
        if lacks_call(status, self.field):
            message = f"this service has no call {call}"
            remedy = "it is older than this botctl, or --url names something else; `botctl status` shows it"
        elif self.field and self.field not in message:
            message = f"{self.field}: {message}"
        if status == 401:
            remedy = "name its file with --token-file; the service's log says at its start which that is"
        super().__init__(message, remedy, _exit(status))


def lacks_call(status: int, field: str) -> bool:
    """Return whether the service has no such path or method; an unknown bot is named by another field."""
    return status in (404, 405) and field in ("path", "")


def _exit(status: int) -> Exit:
    match status:
        case 401 | 403:
            return Exit.unauthorised
        case 404 | 405:
            return Exit.unknown
        case 502 | 503 | 504:
            return Exit.unreachable
        case _:
            return Exit.failed
