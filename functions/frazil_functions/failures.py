"""What an exception in a worker means: the query's fault, the store's, the memory's, or ours.

The distinction decides whether the attempt is retried, so it is made here once, in the process where the exception still
has its class. An error leaves with the place where it happened and without the credentials of the scan.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Sequence
from typing import Final

import polars.exceptions as pl_exceptions

from frazil_functions.errors import (
    FrazilError,
    InternalError,
    OutOfMemoryError,
    QueryError,
    StorageError,
    StorageFullError,
    exception_name,
)

__all__ = ["may_be_the_engines_fault", "task_error"]

_STORE_MARK: Final = re.compile(r"object-store error|Generic \w+ error|error sending request")
"""How polars' own scans name an error of the store."""

_STATUS: Final = re.compile(r"status code: (\d{3})")
_NO_SPACE: Final = re.compile(r"No space left on device|os error 28\b")
_TRANSIENT_STATUS: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_PERMANENT: Final = (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError)
_POLARS: Final = (pl_exceptions.PolarsError, pl_exceptions.PanicException)
_MIN_SECRET: Final = 4
_ENGINES_FAULTS: Final = frozenset({"PanicException", "SchemaError", "ShapeError"})
"""What polars' streaming engine raises of its own rows where its in-memory engine answers: of sorted structs, of inputs that
became empty (polars 2.1). Of the user's data these classes tell rarely, and what they tell then costs a second run."""


def task_error(
    error: BaseException,
    *,
    where: dict[str, str],
    files: Sequence[str] = (),
    secrets: Collection[str] = (),
    in_polars: bool = True,
) -> FrazilError:
    """Return the error that the attempt ends with.

    Parameters
    ----------
    error
        What was raised.
    where
        Stage and task.
    files
        What the task scanned: the only one, or the one that the message names, is added to `where`.
    secrets
        Values that must not leave in a message.
    in_polars
        Whether it was raised while Polars ran the fragment, so that also a builtin exception is Polars' answer.
    """
    if isinstance(error, FrazilError):
        error.where = {**where, **error.where}
        return error
    message = str(error) or type(error).__name__
    named = next((file for file in files if file in message), files[0] if len(files) == 1 else None)
    for secret in secrets:
        if len(secret) >= _MIN_SECRET:
            message = message.replace(secret, "***")
    if named is not None:
        where = {**where, "file": named}
    return _classified(error, message, where, in_polars=in_polars)


def may_be_the_engines_fault(error: BaseException) -> bool:
    """Return whether polars' in-memory engine, its default, should be asked after its streaming engine has failed."""
    return isinstance(error, QueryError) and error.exception in _ENGINES_FAULTS


def _classified(error: BaseException, message: str, where: dict[str, str], *, in_polars: bool) -> FrazilError:
    if _is_no_space(error, message):
        return StorageFullError(message, where=where)
    if isinstance(error, MemoryError):
        return OutOfMemoryError(f"no memory left: {message}", where=where)
    if _is_transient(error, message):
        return StorageError(message, where=where)
    if isinstance(error, _POLARS) or (in_polars and isinstance(error, Exception)):
        return QueryError(message, exception=exception_name(error), where=where)
    return InternalError(f"{type(error).__name__}: {message}", where=where)


def _is_no_space(error: BaseException, message: str) -> bool:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return True
    return isinstance(error, OSError | pl_exceptions.PolarsError) and _NO_SPACE.search(message) is not None


def _is_transient(error: BaseException, message: str) -> bool:
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, _PERMANENT) or not isinstance(error, OSError | pl_exceptions.PolarsError):
        return False
    if _STORE_MARK.search(message) is None:
        return False
    status = _STATUS.search(message)
    if status is None:
        return "HTTP error" in message or "timed out" in message
    code = int(status.group(1))
    return code >= _SERVER_ERROR or code in _TRANSIENT_STATUS
