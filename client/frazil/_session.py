"""What an engine needs of a coordinator, near (:mod:`frazil._local`) or far (:mod:`frazil._remote`).

A session moves bytes and values; it knows nothing of LazyFrames. All its calls block and may come from several threads.
Errors leave it as :class:`frazil_functions.errors.FrazilError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import polars as pl

from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, TableSource
from frazil_coordinator.catalog.parameters import Parameters
from frazil_coordinator.events.model import DeadLetter, Trigger, TriggerSource, TriggerView
from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus
from frazil_functions.errors import FrazilError
from frazil_functions.ids import QueryId

__all__ = [
    "FallbackWarning",
    "PagedSession",
    "ReplaySession",
    "Session",
    "TableSession",
    "TriggerSession",
    "UnreachableError",
    "WithTriggers",
]


class FallbackWarning(UserWarning):
    """A part of a query ran in one task, because it has no distributed form (``Settings(fallback="warn")``)."""


class UnreachableError(FrazilError, ConnectionError):
    """The coordinator can't be reached, or it stopped answering."""

    kind: ClassVar[str] = "unreachable"


@runtime_checkable
class TableSession(Protocol):
    """A connection to a coordinator that keeps tables."""

    def submit_sql(
        self,
        text: str,
        parameters: Parameters,
        labels: Sequence[str],
        *,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a statement and return at once."""
        ...

    def explain_sql(self, text: str, parameters: Parameters, *, dry_run: bool = False) -> Explanation:
        """Return how a statement would be cut into stages; that of ``EXPLAIN ANALYZE`` is run."""
        ...

    def tables(self) -> tuple[Table, ...]:
        """Return the tables of the session's tenant, by name."""
        ...

    def table(self, name: str) -> Table:
        """Return one of them."""
        ...

    def put_table(self, name: str, source: TableSource, *, expected: int | None = None) -> Table:
        """Make or replace one; `expected` is the version that it replaces, 0 for none."""
        ...

    def drop_table(self, name: str, *, expected: int | None = None) -> None:
        """Drop one; its files stay."""
        ...

    def catalogs(self) -> tuple[CatalogInfo, ...]:
        """Return the catalogs whose tables statements may name, by name."""
        ...

    def catalog_tables(self, catalog: str, namespace: str = "") -> tuple[CatalogTable, ...]:
        """Return the tables of one of them, or of one of its namespaces, by name."""
        ...


@runtime_checkable
class ReplaySession(Protocol):
    """A connection to a coordinator that gives tasks to be run again."""

    def replay(self, query: QueryId, stage: int, task: int, attempt: int | None = None) -> bytes:
        """Return the bundle of a task; of its last attempt, unless another one is named."""
        ...


class TriggerSession(Protocol):
    """A connection to the triggers of a coordinator."""

    def list(self) -> tuple[TriggerView, ...]:
        """Return the triggers of the session's tenant, by name."""
        ...

    def show(self, name: str) -> TriggerView:
        """Return one of them, and what it does."""
        ...

    def put(self, name: str, source: TriggerSource, expected: int | None) -> Trigger:
        """Make or replace one; `expected` is the version that it replaces, 0 for none."""
        ...

    def drop(self, name: str, expected: int | None) -> None:
        """Drop one; its output stays."""
        ...

    def pause(self, name: str, *, paused: bool) -> Trigger:
        """Pause or resume one."""
        ...

    def run(self, name: str) -> None:
        """List its source now, and take up what is new."""
        ...

    def replay(self, name: str, since_unix_s: float) -> None:
        """Let objects modified since a time be new again."""
        ...

    def dead(self, name: str) -> tuple[DeadLetter, ...]:
        """Return the objects that it gave up."""
        ...

    def revive(self, name: str, urls: Sequence[str] | None) -> int:
        """Try dead letters again, and return how many."""
        ...


@runtime_checkable
class WithTriggers(Protocol):
    """A session with a coordinator that has triggers."""

    @property
    def triggers(self) -> TriggerSession:
        """The connection to them."""
        ...


@runtime_checkable
class PagedSession(Protocol):
    """A session that reads parts of results."""

    def page(self, query: QueryId, offset: int, limit: int) -> pl.DataFrame:
        """Return at most `limit` rows of a result from row `offset` on; as often as one likes, while it is kept."""
        ...


class Session(Protocol):
    """A connection to one coordinator."""

    @property
    def settings(self) -> Settings:
        """Settings of the queries of this session."""
        ...

    @property
    def shares_files(self) -> bool:
        """Whether a path means the same file here and for the coordinator."""
        ...

    def submit(
        self,
        plan: bytes,
        labels: Sequence[str],
        *,
        discard_result: bool = False,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Start a query and return at once; with `discard_result`, its rows are deleted at its end."""
        ...

    def status(self, query: QueryId) -> QueryStatus:
        """Return what is known of a query now."""
        ...

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        """Return when the query has ended, or after `timeout_s` seconds (None: never) with what is known then."""
        ...

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        """Yield the query's state and progress as they change, until it has ended."""
        ...

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        """Wait for the result and yield it in order, block by block; at least one frame, which gives the schema."""
        ...

    def plan(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        """Return how a submitted query is cut into stages; with `analyze`, also what they did until now."""
        ...

    def profile(self, query: QueryId) -> dict[str, object]:
        """Return what the query used, by stage."""
        ...

    def glance(self, query: QueryId, timeout_s: float) -> tuple[QueryStatus, dict[str, object] | None]:
        """Return what is known of a query now and what it used, after `timeout_s` seconds at most.

        What is not there in time is left out: the profile is None, and without a status it is an error. Nothing is tried
        twice, for it is asked on behalf of somebody who only looks.
        """
        ...

    def cancel(self, query: QueryId) -> None:
        """Stop a query; no effect on one that has ended."""
        ...

    def explain(self, plan: bytes, *, dry_run: bool = False) -> Explanation:
        """Return how a plan would be cut into stages; nothing runs. With `dry_run`, a query above a cap is refused."""
        ...

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        """Return the newest queries of the coordinator, newest first."""
        ...

    def close(self) -> None:
        """End the session; a second call has no effect."""
        ...
