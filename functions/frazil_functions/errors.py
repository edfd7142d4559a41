"""Every error of Frazil, in one tree, grouped by what the handler does.

::

    FrazilError
    ├── UserError                    never retried; the query fails at once
    │   ├── QueryError               polars raised while running a fragment; carries the class of the polars error
    │   ├── PlanError                the plan can't be run: not a plan, truncated, refused, too large
    │   │   ├── PlanVersionError     serialised by another polars version
    │   │   ├── PythonPlanError      holds Python functions, which are refused
    │   │   ├── FallbackError        ``fallback="raise"`` and a part of the plan has no distributed form
    │   │   └── CapError             the estimate is above a cap (`max_bytes_scanned`, `max_cost`, `max_tasks`)
    │   ├── SourceError              an input file is missing, unreadable, or changed since it was planned
    │   ├── BordersError             a text file was cut where no line ends; the query is planned again with whole files
    │   ├── DeadlineError            the query's time is up
    │   ├── CancelledQueryError      the query was cancelled
    │   ├── QuotaError               a quota of the tenant's is used up; ``where`` says when to try again
    │   └── RequestError             a bad request of another kind (unknown query, bad setting)
    ├── TaskError                    the attempt failed; another may succeed, and it counts against the task
    │   ├── BlockError               an exchange block is missing or its checksum is wrong
    │   ├── StorageError             the object store refused or failed; also an OSError, as polars raises
    │   │   └── StorageFullError     no space left; retried as any storage error
    │   ├── OutOfMemoryError         the attempt went over its memory limit
    │   └── InternalError            anything unforeseen inside a function
    ├── PlatformError                the platform, not the task, failed; retried, counted apart
    │   ├── FunctionLostError        no answer, a torn stream, a killed process
    │   ├── FunctionBusyError        429, 503: try again later
    │   ├── StandbyError             this coordinator does not lead: ask again, and the one that does may answer
    │   └── ProtocolError            refused: not signed, expired, other protocol or polars version (not retried)
    └── JournalError                 what a coordinator wrote of a query can't be read: other version or key, damaged
        └── DeposedError             another coordinator goes on with the query

Errors cross the wire as :class:`WireError` and come back as the same class (:func:`to_wire`, :func:`from_wire`). A polars
error comes back as the same polars class, with ``stage``, ``task`` and ``source`` in its notes (:func:`user_exception`).
"""

from __future__ import annotations

import builtins
import sys
from typing import ClassVar, Final

import msgspec
import polars.exceptions as pl_exceptions

__all__ = [
    "BlockError",
    "BordersError",
    "CancelledQueryError",
    "CapError",
    "DeadlineError",
    "DeposedError",
    "FallbackError",
    "FrazilError",
    "FunctionBusyError",
    "FunctionLostError",
    "InternalError",
    "JournalError",
    "OutOfMemoryError",
    "PlanError",
    "PlanVersionError",
    "PlatformError",
    "ProtocolError",
    "PythonPlanError",
    "QueryError",
    "QuotaError",
    "RequestError",
    "SourceError",
    "StandbyError",
    "StorageError",
    "StorageFullError",
    "TaskError",
    "UserError",
    "WireError",
    "exception_name",
    "from_wire",
    "to_wire",
    "user_exception",
]


class FrazilError(Exception):
    """Base class of all errors of Frazil.

    Parameters
    ----------
    message
        What happened and what to do about it.
    where
        Stage, task and file that the error belongs to, e.g. ``{"stage": "2", "task": "5", "file": "s3://b/x.parquet"}``.
    """

    kind: ClassVar[str] = "frazil"
    """Stable name on the wire and in metrics; append-only."""

    retryable: ClassVar[bool] = False
    """Whether another attempt of the same task may succeed."""

    counts_as_failure: ClassVar[bool] = True
    """Whether the attempt counts against the task's bound of retries."""

    def __init__(self, message: str, *, where: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = dict(where or {})

    def __str__(self) -> str:
        if not self.where:
            return self.message
        place = ", ".join(f"{name} {value}" for name, value in self.where.items())
        return f"{self.message} ({place})"


class UserError(FrazilError):
    """The query itself is at fault: it fails at once, and is never retried."""

    kind = "user"


class QueryError(UserError):
    """Polars raised while it ran a fragment.

    Parameters
    ----------
    message
        The text of the polars error.
    exception
        Name of the class that polars raised, e.g. ``ComputeError`` or ``FileNotFoundError``; of a class of the user's, with
        its module.
    where
        See :class:`FrazilError`.
    """

    kind = "query"

    def __init__(self, message: str, *, exception: str = "ComputeError", where: dict[str, str] | None = None) -> None:
        super().__init__(message, where=where)
        self.exception = exception


class PlanError(UserError):
    """The bytes are not a plan that can be run."""

    kind = "plan"


class PlanVersionError(PlanError):
    """The plan was serialised by another version of polars than the one that would run it."""

    kind = "plan_version"


class PythonPlanError(PlanError):
    """The plan holds Python functions, which are refused."""

    kind = "plan_python"


class FallbackError(PlanError):
    """A part of the plan would run in a single task although ``fallback="raise"``."""

    kind = "fallback"


class CapError(PlanError):
    """The query would read, cost or need more than a cap allows; no task was started."""

    kind = "cap"


class SourceError(UserError):
    """An input file is missing, unreadable, or was replaced after planning."""

    kind = "source"


class BordersError(UserError):
    """Nobody knows whether a text file was cut between two lines: the query must be planned again with whole files."""

    kind = "borders"


class DeadlineError(UserError):
    """The query did not end within its time."""

    kind = "deadline"


class CancelledQueryError(UserError):
    """The query was cancelled."""

    kind = "cancelled"


class QuotaError(UserError):
    """What the tenant may use in some time is used up; ``where["retry_after_s"]`` says in how many seconds that is over."""

    kind = "quota"


class RequestError(UserError):
    """A request that can't be served: unknown query, bad setting, too large."""

    kind = "request"


class TaskError(FrazilError):
    """The attempt failed, and another one may succeed."""

    kind = "task"
    retryable = True


class BlockError(TaskError):
    """An exchange block is missing or corrupt."""

    kind = "block"


class StorageError(TaskError, OSError):
    """The object store refused or failed: an `OSError`, as what polars raises then."""

    kind = "storage"


class StorageFullError(StorageError):
    """The object store has no space left."""

    kind = "storage_full"


class OutOfMemoryError(TaskError):
    """The attempt went over its memory limit."""

    kind = "out_of_memory"


class InternalError(TaskError):
    """Something unforeseen inside a function."""

    kind = "internal"


class PlatformError(FrazilError):
    """The platform failed, not the task."""

    kind = "platform"
    retryable = True
    counts_as_failure = False


class FunctionLostError(PlatformError):
    """The function gave no last line: it died, or the connection did."""

    kind = "function_lost"


class FunctionBusyError(PlatformError):
    """The function or the platform asked to come back later."""

    kind = "function_busy"


class StandbyError(PlatformError):
    """The coordinator that was asked does not lead: another one does, or will in a moment."""

    kind = "standby"


class ProtocolError(PlatformError):
    """The function refused the event: not signed, expired, or of another version."""

    kind = "protocol"
    retryable = False
    counts_as_failure = True


class JournalError(FrazilError):
    """What a coordinator wrote of a query can't be read: by this version, with these keys, or at all."""

    kind = "journal"


class DeposedError(JournalError):
    """Another coordinator goes on with the query; this one must not touch it any more."""

    kind = "deposed"


class WireError(msgspec.Struct, frozen=True, kw_only=True):
    """An error as it crosses the wire."""

    kind: str
    """Stable name of the class."""

    message: str
    """What happened."""

    where: dict[str, str] = {}
    """Stage, task, file."""

    exception: str = ""
    """Class of the polars error, for kind ``query``."""


def _walk(cls: type[FrazilError]) -> list[type[FrazilError]]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _walk(child))]


_BY_KIND: Final[dict[str, type[FrazilError]]] = {cls.kind: cls for cls in _walk(FrazilError)}


def to_wire(error: FrazilError) -> WireError:
    """Return `error` in the form that crosses the wire."""
    exception = error.exception if isinstance(error, QueryError) else ""
    return WireError(kind=error.kind, message=error.message, where=error.where, exception=exception)


def from_wire(wire: WireError) -> FrazilError:
    """Return the error that `wire` stands for.

    A kind that this version does not know becomes an :class:`InternalError`, which is retried.
    """
    cls = _BY_KIND.get(wire.kind)
    if cls is None:
        return InternalError(f"{wire.kind}: {wire.message}", where=wire.where)
    if issubclass(cls, QueryError):
        return cls(wire.message, exception=wire.exception, where=wire.where)
    return cls(wire.message, where=wire.where)


def exception_name(error: BaseException) -> str:
    """Return the name by which :func:`user_exception` finds the class of `error`."""
    cls = type(error)
    known = hasattr(pl_exceptions, cls.__name__) or hasattr(builtins, cls.__name__)
    return cls.__name__ if known else f"{cls.__module__}.{cls.__qualname__}"


def _exception_class(name: str) -> object:
    """Return what `name` stands for: in polars, among the builtins, or in a module that this process has imported."""
    module, _, own = name.rpartition(".")
    if module:
        return getattr(sys.modules.get(module), own, None)
    return getattr(pl_exceptions, name, None) or getattr(builtins, name, None)


def user_exception(error: FrazilError) -> BaseException:
    """Return what a user of Polars expects to catch.

    Returns
    -------
    BaseException
        For a :class:`QueryError`, an instance of the class that Polars raised, with a note that names stage, task
        and file, and the :class:`QueryError` as its cause; for any other error, the error itself.
    """
    if not isinstance(error, QueryError):
        return error
    found = _exception_class(error.exception)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        return error
    try:
        raised: BaseException = found(error.message)
    except TypeError:  # a class that is not made from a text (UnicodeDecodeError); the text names it
        return error
    # Files that polars names itself are not named again.
    told = all(file in error.message for file in error.where.get("file", "").split(", "))
    where = {name: value for name, value in error.where.items() if name != "file" or not told}
    if where:
        raised.add_note("frazil: " + ", ".join(f"{name} {value}" for name, value in where.items()))
    raised.__cause__ = error
    return raised
