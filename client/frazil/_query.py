"""One submitted query, as its user sees it.

A :class:`Query` is made by :meth:`frazil.Engine.submit`. It asks its session (:mod:`frazil._session`) and turns the
errors of functions into the exceptions that users of Polars expect.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import polars as pl

from frazil import _card
from frazil._profile import QueryProfile
from frazil._session import FallbackWarning, PagedSession, ReplaySession, Session
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus, StageProgress
from frazil_functions.errors import (
    CancelledQueryError,
    FrazilError,
    InternalError,
    RequestError,
    UserError,
    from_wire,
    user_exception,
)
from frazil_functions.ids import QueryId

if TYPE_CHECKING:
    from frazil._replay import Replay

__all__ = ["Query", "abandon", "user_errors"]

_log = logging.getLogger(__name__)

_GLANCE_S: Final = 2.0
"""Longest time that a card in a notebook waits for what is known now."""

_OUTSIDE_OF: Final = tuple(str(Path(module).parent) for module in (__file__, str(pl.__file__)))


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise the exceptions that a user of Polars expects to catch instead of Frazil's own.

    What is wrong with the query itself is told by class, text and notes: the way that it took through the coordinator and
    its functions is left out. That of any other error is kept: it may tell what is wrong with Frazil or its platform.
    """
    try:
        yield
    except UserError as error:
        raise user_exception(error).with_traceback(None) from None


class Query:
    """A query that was submitted. It goes on whether or not anybody waits for it.

    Made by :meth:`frazil.Engine.submit`; `frazil.Engine.last_query` is the one that ``collect`` ran last.
    """

    def __init__(self, session: Session, status: QueryStatus) -> None:
        self._session = session
        self._status = status
        self._told_unix_s = time.time()
        self._used: dict[str, object] | None = None
        """Its profile, as it was told for the last card; None before."""

        self._used_all = False
        """Whether that is the profile of the ended query, which does not change any more."""

        self._warned = False
        self._frame: pl.DataFrame | None = None

    @property
    def id(self) -> QueryId:
        """Name of the query at its coordinator."""
        return self._status.id

    def status(self) -> QueryStatus:
        """Return what is known of the query now: state, times, error, progress."""
        return self._keep(self._session.status(self.id))

    def progress(self) -> tuple[StageProgress, ...]:
        """Return how far each stage is, producers before consumers; empty until the query is planned."""
        return self.status().progress

    def events(self) -> Iterator[QueryEvent]:
        """Yield state and progress as they change, until the query has ended."""
        for event in self._session.events(self.id):
            self._know(event.status)
            yield event

    def wait(self, timeout_s: float | None = None) -> QueryStatus:
        """Return when the query has ended, or after `timeout_s` seconds with what is known then.

        Parameters
        ----------
        timeout_s
            Seconds to wait at most; None: until the end.

        Raises
        ------
        KeyboardInterrupt
            When the user interrupts; the query is cancelled first.
        """
        with self._cancelled_by_interrupt():
            return self._keep(self._session.wait(self.id, timeout_s))

    def result(self, timeout_s: float | None = None) -> pl.DataFrame:
        """Wait for the query and return its rows.

        Parameters
        ----------
        timeout_s
            Seconds to wait at most; None: until the end.

        Raises
        ------
        TimeoutError
            When the query has not ended in time; it goes on.
        PolarsError
            What Polars raised in a function: the same class, with a note that names stage, task and file.
        FrazilError
            When the query failed otherwise, or was cancelled.
        """
        if self._frame is None:
            self._frame = self.fetch(timeout_s)
        return self._frame

    def fetch(self, timeout_s: float | None = None) -> pl.DataFrame:
        """As :meth:`result`, but the rows are read anew by each call and not kept."""
        return pl.concat(list(self.batches(timeout_s)), rechunk=False)

    def batches(self, timeout_s: float | None = None) -> Iterator[pl.DataFrame]:
        """Wait for the query and yield its rows in order, as DataFrames; the first may be empty.

        Raises
        ------
        TimeoutError, PolarsError, FrazilError
            As :meth:`result`.
        """
        self._require_success(self.wait(timeout_s), timeout_s)
        with user_errors(), self._cancelled_by_interrupt():
            yield from self._session.batches(self.id)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel to another process as a name: there it is asked for by a connection of that process's own."""
        return _arrived, (self._session, self.status())

    def page(self, offset: int, limit: int) -> pl.DataFrame:
        """Return at most `limit` rows of the result from row `offset` on; it is kept, and can be read again.

        Raises
        ------
        RequestError
            When the engine reads no parts of results; else as :meth:`result`.
        """
        if not isinstance(self._session, PagedSession):
            raise RequestError("this engine reads no parts of results")
        self._require_success(self._status if self._status.state.ended else self.wait(), None)
        with user_errors():
            return self._session.page(self.id, offset, limit)

    def cancel(self) -> None:
        """Stop the query and delete what it left behind; no effect on one that has ended."""
        self._session.cancel(self.id)

    def profile(self) -> QueryProfile:
        """Return what the query used until now, by stage.

        Returns
        -------
        QueryProfile
            A mapping of JSON values, which is stable (docs/client.md lists the fields); its
            :meth:`~frazil.QueryProfile.frames` are the same as DataFrames.
        """
        profile = self._session.profile(self.id)
        if self._status.started_unix_s is None and profile.get("stages"):  # what is known of it is older
            self.status()
        return QueryProfile(profile, started_unix_s=self._status.started_unix_s)

    def replay(
        self,
        stage: int,
        task: int,
        *,
        attempt: int | None = None,
        store: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        allow_udfs: bool = False,
    ) -> Replay:
        """Return a task of the query with all that it reads, to be run again in this process (docs/replay.md).

        Parameters
        ----------
        stage, task
            Which one: of a running query any whose inputs are there; of an ended one the task that it failed with, or any
            when it ran with ``keep_inputs="all"``.
        attempt
            Number of the attempt. None: the last one.
        store, storage_options
            The exchange store, for blocks that are too many to be sent along. None: there is none.
        allow_udfs
            Whether Python functions of the query may be called here.

        Raises
        ------
        RequestError
            When there is no such task, or what it reads is not known yet, or deleted; the message says what to do.
        """
        from frazil._parts import functions_extra

        with functions_extra():
            from frazil._replay import Replay
        if not isinstance(self._session, ReplaySession):
            raise RequestError("this engine runs no tasks, so that there is none to run again")
        with user_errors():
            data = self._session.replay(self.id, stage, task, attempt)
        return Replay.of(data, store=store, storage_options=storage_options, allow_udfs=allow_udfs)

    def explain(self, *, analyze: bool = False) -> str:
        """Return the text of :meth:`explanation`."""
        return self.explanation(analyze=analyze).text

    def explanation(self, *, analyze: bool = False) -> Explanation:
        """Return how the query is cut into stages, and what was expected of each, as soon as it is planned.

        Parameters
        ----------
        analyze
            Whether to show beside it what each stage did: until now, or in all.

        Raises
        ------
        PolarsError, FrazilError
            Why the query could not be planned.
        """
        with user_errors():
            next((event for event in self.events() if event.status.state is not QueryState.PLANNING), None)
            return self._session.plan(self.id, analyze=analyze)

    def require_success(self) -> None:
        """Wait for the end, and raise unless the query succeeded; the rows are left where they are.

        Raises
        ------
        PolarsError, FrazilError
            As :meth:`result`.
        """
        self._require_success(self.wait(), None)

    def _require_success(self, status: QueryStatus, timeout_s: float | None) -> None:
        if not status.state.ended:
            raise TimeoutError(f"query {self.id} is {status.state} after {timeout_s} s; it goes on: cancel() stops it")
        if status.state is not QueryState.SUCCEEDED:
            with user_errors():
                raise _error_of(status)

    def _know(self, status: QueryStatus) -> None:
        self._status, self._told_unix_s = status, time.time()

    def _keep(self, status: QueryStatus) -> QueryStatus:
        self._know(status)
        if status.fallbacks and not self._warned:
            self._warned = True
            reasons = "".join(f"\n  {reason}" for reason in status.fallbacks)
            warnings.warn(
                FallbackWarning(f"parts of query {self.id} run in one task:{reasons}"), stacklevel=_user_stacklevel()
            )
        return status

    @contextmanager
    def _cancelled_by_interrupt(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            abandon(self)
            raise

    def __repr__(self) -> str:
        """Return what is known of it; nobody is asked."""
        return _card.line(self._status)

    def _repr_html_(self) -> str:
        """Return a card for notebooks.

        The coordinator is asked for status and profile, for 2 s at most, unless both are known and final. One that gives
        no answer is no error: the card says so, and shows what was known last.
        """
        silent = ""
        if not self._used_all:
            try:
                status, used = self._session.glance(self.id, _GLANCE_S)
            except FrazilError as error:
                silent = str(error)
            else:
                self._know(status)
                self._used = used or self._used
                self._used_all = status.state.ended and used is not None
        return _card.card(self._status, self._used, told_unix_s=self._told_unix_s, silent=silent)


def _arrived(session: Session, status: QueryStatus) -> Query:
    """Return a query in another process than the one that submitted it."""
    return Query(session, status)


def abandon(query: Query) -> None:
    """Cancel a query that nobody wants any more; a failure to do so is logged, for it must not hide why."""
    try:
        query.cancel()
    except FrazilError as error:
        _log.warning("a query could not be cancelled", extra={"query": query.id, "error": str(error)})


def _error_of(status: QueryStatus) -> FrazilError:
    if status.error is not None:
        return from_wire(status.error)
    if status.state is QueryState.CANCELLED:
        return CancelledQueryError(f"query {status.id} was cancelled")
    return InternalError(f"query {status.id} failed without saying why")


def _user_stacklevel() -> int:
    """Return the stacklevel, for the caller's ``warnings.warn``, of the first frame outside Frazil and Polars."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as `warnings` does; inspect.stack() reads source files
    level = 1
    while frame is not None and frame.f_code.co_filename.startswith((*_OUTSIDE_OF, "<")):
        frame, level = frame.f_back, level + 1
    return level
