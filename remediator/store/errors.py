"""The errors of the store. Those of SQLAlchemy and of a database's driver stay inside it."""

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from remediator.errors import ExternalError, first_line


class StoreError(ExternalError):
    """The store did not do what it was asked for; nothing of the transaction is kept."""


class StoreUnavailableError(StoreError):
    """The database is away, full or broken. The same may be tried again later."""


class ConflictError(StoreError):
    """A row is there already that only one may be of: another writer was first."""


def driver_message(error: Exception) -> str:
    """Return the first line of what the database's driver says, without the statement."""
    return first_line(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error)


def from_sqlalchemy(error: SQLAlchemyError) -> StoreError:
    """Return the same error as one of ours."""
    kind = ConflictError if isinstance(error, IntegrityError) else StoreUnavailableError
    return kind(driver_message(error))
