"""The errors of the store. Those of SQLAlchemy and of a database's driver stay inside it."""

from typing import Final

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from remediator.errors import ExternalError, first_line

_DATA_EXCEPTION: Final = "22"  # the class of SQLSTATE (PostgreSQL's manual, appendix A)


class StoreError(ExternalError):
    """The store did not do what it was asked for; nothing of the transaction is kept."""


class StoreUnavailableError(StoreError):
    """The database is away, full or broken. The same may be tried again later."""


class ConflictError(StoreError):
    """A row is there already that only one may be of: another writer was first."""


class UnstorableError(ExternalError):
    """A value that no column takes. No fault of the store: the same would be refused again and again."""


def driver_message(error: Exception) -> str:
    """Return the first line of what the database's driver says, without the statement."""
    return first_line(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)


def from_sqlalchemy(error: SQLAlchemyError) -> StoreError | UnstorableError:
    """Return the same error as one of ours."""
    state = str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")
    if isinstance(error, DataError) or state.startswith(_DATA_EXCEPTION):
        return UnstorableError(driver_message(error))
    kind = ConflictError if isinstance(error, IntegrityError) else StoreUnavailableError
    return kind(driver_message(error))
