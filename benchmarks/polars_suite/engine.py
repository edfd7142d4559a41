"""Sends the queries of a test to Frazil, whichever of Polars' own engines they ask for.

:func:`route` is used by :mod:`.plugin`, once in each pytest worker. Operations on DataFrames stay with Polars.
"""

# ruff: noqa: ANN401  # what polars passes is passed on

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import polars as pl
from polars.lazyframe import engine_config

import frazil
from benchmarks.polars_suite.records import QueryRecord
from frazil._remote import RemoteSession
from frazil_coordinator.query_settings import Reusing
from frazil_functions.arena import Arena

__all__ = ["Journal", "route"]

_NAMES: Final = ("auto", "in-memory", "cpu", "streaming")
_SINK_METHODS: Final = ("sink_parquet", "sink_ipc", "sink_csv", "sink_ndjson", "sink_batches")
_PLAIN: Final = pl.InMemoryEngine(monitoring=False)


class Journal:
    """What the test of this moment asked of Frazil."""

    def __init__(self) -> None:
        self._queries: list[tuple[frazil.Query, bytes]] = []

    def submitted(self, query: frazil.Query, plan: bytes) -> None:
        """Note a query and the plan that was sent; how it went is asked at the end of the test."""
        self._queries.append((query, plan))

    def take(self) -> tuple[QueryRecord, ...]:
        """Return the queries since the last call."""
        queries = tuple(_recorded(query, plan) for query, plan in self._queries)
        self._queries = []
        return queries


def _recorded(query: frazil.Query, plan: bytes) -> QueryRecord:
    try:
        state = query.status().state
        if state is not frazil.QueryState.SUCCEEDED:
            return QueryRecord(state=state.value, rows=0)
        stages = cast("list[dict[str, Any]]", query.profile()["stages"])
    except frazil.FrazilError as error:  # a coordinator that is too busy to tell, or has forgotten
        return QueryRecord(state=f"unknown: {error}", rows=0)
    reasons = dict.fromkeys(reason for stage in stages for reason in stage["fallbacks"])
    tasks = max((stage["tasks"] for stage in stages), default=0)
    return QueryRecord(state=state.value, rows=_largest_source(plan), tasks=tasks, fallbacks=tuple(reasons))


def _largest_source(plan: bytes) -> int:
    """Return the rows of the largest frame or file of a query; 0 when it can't be read any more."""
    arena = Arena.decode(plan)
    sources = [number for number in arena.reachable() if arena.kind(number) in ("DataFrameScan", "Scan")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return max((_rows(arena.lazy(number)) for number in sources), default=0)


def _rows(source: pl.LazyFrame) -> int:
    try:
        return int(source.select(pl.len()).collect(engine=_PLAIN).item())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return 0  # a file that the test has deleted, or that is broken on purpose


class _JournallingEngine(frazil.Engine):
    """Frazil's engine; it notes what is submitted."""

    def __init__(self, session: RemoteSession, journal: Journal) -> None:
        super().__init__(session)
        self._journal = journal
        self._sent = threading.local()

    def _plan(self, lf: pl.LazyFrame, *, runs: bool = True) -> bytes:
        self._sent.plan = plan = super()._plan(lf, runs=runs)
        return plan

    def _start(
        self,
        lf: pl.LazyFrame,
        labels: Iterable[str] = (),
        *,
        discard_result: bool = False,
        priority: int | None = None,
        reusing: Reusing | None = None,
    ) -> frazil.Query:
        query = super()._start(lf, labels, discard_result=discard_result, priority=priority, reusing=reusing)
        self._journal.submitted(query, self._sent.plan)
        return query


class _Routed(pl.Engine):
    """Bears the name of one of Polars' engines, so that plans are printed as that one would, and asks Frazil."""

    def __init__(self, plain: pl.Engine, engine: frazil.Engine) -> None:
        self._plain = plain
        self._engine = engine

    @property
    def name(self) -> str:
        return self._plain.name

    @property
    def plan_engine(self) -> str:
        return self._plain.plan_engine

    def collect(self, lf: pl.LazyFrame, **options: Any) -> Any:
        return self._ask("collect", lf, **options)

    def execute(self, lf: pl.LazyFrame, **options: Any) -> Any:
        return self._ask("execute", lf, **options)

    def collect_async(self, lf: pl.LazyFrame, **options: Any) -> Any:
        return self._ask("collect_async", lf, **options)

    def collect_batches(self, lf: pl.LazyFrame, **options: Any) -> Any:
        return self._ask("collect_batches", lf, **options)

    def collect_all(self, lfs: Iterable[pl.LazyFrame], **options: Any) -> Any:
        return self._ask("collect_all", list(lfs), **options)

    def collect_all_async(self, lfs: Iterable[pl.LazyFrame], **options: Any) -> Any:
        return self._ask("collect_all_async", list(lfs), **options)

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Ask Frazil; or Polars, for what a DataFrame or Frazil's own client asks for."""
        inside = getattr(_ASKING, "inside", False)
        if inside or options["optimizations"]._pyoptflags.eager:  # noqa: SLF001  # as in frazil._sinks
            return getattr(self._plain, method)(*arguments, **options)
        _ASKING.inside = True
        try:
            return getattr(self._engine, method)(*arguments, **options)
        finally:
            _ASKING.inside = False


_ASKING: Final = threading.local()


def _sink_method(name: str) -> Callable[..., None]:
    def sink(self: _Routed, lf: pl.LazyFrame, *arguments: Any, **options: Any) -> None:
        self._ask(name, lf, *arguments, **options)

    return sink


for _name in _SINK_METHODS:
    setattr(_Routed, _name, _sink_method(_name))


def route(url: str, token: str, journal: Journal) -> None:
    """Make every query of this process that names no engine object one of the coordinator at `url`.

    Parameters
    ----------
    url, token
        The coordinator, and what it asks for. It is another process, whose own use of Polars stays as it is.
    journal
        Notes the queries.

    Notes
    -----
    Polars (2.1, ``polars/lazyframe/engine_config.py``) looks names of engines up in one table; these are its entries.
    """
    engine = _JournallingEngine(RemoteSession(url, token=token), journal)
    table = engine_config._ENGINE_BY_NAME  # noqa: SLF001  # there is no public door
    for name in _NAMES:
        table[name] = _Routed(table[name], engine)
