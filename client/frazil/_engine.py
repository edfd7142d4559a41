"""The engine that polars calls: ``lf.collect(engine=engine)`` and everything beside it.

An :class:`Engine` turns LazyFrames into plans (:mod:`frazil._serialize`), submits them through its session
(:mod:`frazil._session`) and gives back what polars expects of an engine. It plans nothing and runs nothing.
"""

# ruff: noqa: ARG002  # polars decides what an engine is given

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import msgspec
import polars as pl
from polars.lazyframe.query_result import QueryResult, SingleNodeQueryResult

from frazil._async import AsyncResult, BackgroundQuery
from frazil._batches import QueryBatches
from frazil._query import Query, abandon, user_errors
from frazil._serialize import SeveralSinksError, TableSinkError, serialize
from frazil._session import Session
from frazil._sinks import SinkMethods
from frazil._tables import Tables, table_session
from frazil._together import in_order, together
from frazil._triggers import Triggers
from frazil._written import WrittenFile
from frazil_coordinator.catalog.parameters import Parameters
from frazil_coordinator.query_settings import AS_SETTINGS, ReuseChoice, Reusing
from frazil_coordinator.status import Explanation
from frazil_functions.ids import QueryId

if TYPE_CHECKING:
    from polars._typing import PostOptCallback
    from polars.lazyframe.in_process import InProcessQuery

__all__ = ["Engine"]


def _unwatched(query: Query) -> AbstractContextManager[None]:
    del query
    return nullcontext()


class Engine(SinkMethods):
    """Runs queries on functions. Made by :func:`frazil.local` and :func:`frazil.connect`; a context manager.

    Use it as ``lf.collect(engine=engine)``, or by ``pl.Config.set_engine_affinity(engine)`` for every query that does not
    name an engine. Operations on DataFrames stay in this process, as polars runs them with its in-memory engine.

    Parameters
    ----------
    session
        The connection to a coordinator.
    watch
        Called with every query that is waited for; what it returns is entered while waiting (progress bars).
    priority, reusing
        Of queries that name none of their own.

    Notes
    -----
    ``optimizations`` are not sent: they don't change answers, and functions use the defaults of polars.
    Sinks (``sink_parquet`` …) are written by functions; see docs/sinks.md.
    """

    def __init__(
        self,
        session: Session,
        *,
        watch: Callable[[Query], AbstractContextManager[None]] = _unwatched,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> None:
        self._session = session
        self._reusing = reusing
        self._priority = priority
        self._watch = watch
        self._last_query: Query | None = None

    @property
    def name(self) -> str:
        """Engine identifier: ``frazil``."""
        return "frazil"

    @property
    def plan_engine(self) -> str:
        """What ``lf.explain(engine=engine)`` renders: functions run their fragments with the streaming engine."""
        return "streaming"

    @property
    def last_query(self) -> Query | None:
        """The query that this engine submitted last; None before the first."""
        return self._last_query

    def __repr__(self) -> str:
        return f"<frazil.Engine {self._session!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what this engine started (functions, a temporary store) or hang up; a second call has no effect."""
        self._session.close()

    @property
    def tables(self) -> Tables:
        """The coordinator's tables: names and the LazyFrames that scan them."""
        return Tables(table_session(self._session))

    @property
    def triggers(self) -> Triggers:
        """The coordinator's triggers: stored queries that run when objects arrive."""
        return Triggers(self._session)

    def sql(
        self,
        text: str,
        parameters: Parameters = (),
        *,
        labels: Iterable[str] = (),
        priority: int | None = None,
        reuse: ReuseChoice | None = None,
        max_age_s: float | None = None,
    ) -> Query:
        """Start a statement over the coordinator's tables and return at once.

        Parameters
        ----------
        text
            One statement, in polars' SQL.
        parameters
            Values for ``?`` and ``$1``, or by name for ``:name``.
        labels, priority, reuse, max_age_s
            See :meth:`submit`.

        Raises
        ------
        polars.exceptions.PolarsError
            When polars refuses the statement.
        """
        session = table_session(self._session)
        with user_errors():
            status = session.submit_sql(
                text,
                parameters,
                tuple(labels),
                priority=self._priority if priority is None else priority,
                reusing=self._reusing_of(reuse, max_age_s),
            )
        self._last_query = Query(self._session, status)
        return self._last_query

    @overload
    def submit(
        self,
        lf: pl.LazyFrame,
        *,
        labels: Iterable[str] = ...,
        priority: int | None = ...,
        dry_run: Literal[False] = ...,
        reuse: ReuseChoice | None = ...,
        max_age_s: float | None = ...,
    ) -> Query: ...

    @overload
    def submit(
        self, lf: pl.LazyFrame, *, labels: Iterable[str] = ..., priority: int | None = ..., dry_run: Literal[True]
    ) -> Explanation: ...

    def submit(
        self,
        lf: pl.LazyFrame,
        *,
        labels: Iterable[str] = (),
        priority: int | None = None,
        dry_run: bool = False,
        reuse: ReuseChoice | None = None,
        max_age_s: float | None = None,
    ) -> Query | Explanation:
        """Start a query and return at once.

        Parameters
        ----------
        lf
            The query.
        labels
            Names by which ``frazil queries --label`` finds it.
        priority
            Among the queries of your tenant, from -10 to 10; the highest first. None: the engine's, which is 0 by default.
        dry_run
            Plan it, estimate it and check the caps, run nothing, and return the explanation.
        reuse, max_age_s
            In the place of the settings of these names (docs/reuse.md). None: as the settings say.

        Raises
        ------
        PlanError
            When the plan can't be sent: Python functions, a credential provider, too large, another polars version; on a
            dry run also what is wrong with the plan, and `CapError` when it is above a cap.
        UnreachableError
            When the coordinator does not answer.
        """
        if not dry_run:
            return self._start(lf, labels, priority=priority, reusing=self._reusing_of(reuse, max_age_s))
        with user_errors():
            return self._session.explain(self._plan(lf, runs=False), dry_run=True)

    def query(self, query: str) -> Query:
        """Return a query that was submitted before, by this process or another, also if its coordinator was restarted since.

        Parameters
        ----------
        query
            Its id (`Query.id`).

        Raises
        ------
        RequestError
            When the coordinator knows no such query.
        UnreachableError
            When the coordinator does not answer.
        """
        with user_errors():
            return Query(self._session, self._session.status(QueryId(query)))

    def _start(
        self,
        lf: pl.LazyFrame,
        labels: Iterable[str] = (),
        *,
        discard_result: bool = False,
        priority: int | None = None,
        reusing: Reusing | None = None,
    ) -> Query:
        """Submit a query: all that this engine runs goes through here."""
        with user_errors():
            status = self._session.submit(
                self._plan(lf),
                tuple(labels),
                discard_result=discard_result,
                priority=self._priority if priority is None else priority,
                reusing=self._reusing if reusing is None else reusing,
            )
        self._last_query = Query(self._session, status)
        return self._last_query

    def _reusing_of(self, reuse: ReuseChoice | None, max_age_s: float | None) -> Reusing:
        own = self._reusing
        age_s = own.max_age_s if max_age_s is None else max_age_s
        return Reusing(reuse=own.reuse if reuse is None else reuse, max_age_s=age_s)

    def _plan(self, lf: pl.LazyFrame, *, runs: bool = True) -> bytes:
        limit = self._session.settings.max_plan_bytes
        return serialize(lf, max_plan_bytes=limit, shares_files=self._shares_files, runs=runs)

    def explain(self, lf: pl.LazyFrame, *, analyze: bool = False) -> str:
        """Return the text of :meth:`explanation`."""
        return self.explanation(lf, analyze=analyze).text

    def explanation(self, lf: pl.LazyFrame, *, analyze: bool = False) -> Explanation:
        """Return how `lf` would be cut into stages, what falls back, and what it would read and cost; nothing runs.

        Parameters
        ----------
        lf
            The query.
        analyze
            Run it, discard its rows, and show beside the estimates what each stage did; `last_query` is that run.

        Raises
        ------
        PolarsError, FrazilError
            As ``collect`` does, when it is run; else as planning does.
        """
        if not analyze:
            with user_errors():
                return self._session.explain(self._plan(lf, runs=False))
        query = self._start(lf, discard_result=True)
        with self._watch(query):
            query.require_success()
        return query.explanation(analyze=True)

    @property
    def _shares_files(self) -> bool:
        return self._session.shares_files

    def _gather(self, queries: Sequence[Query]) -> list[pl.DataFrame]:
        """Return the results in order; when one fails, or the user interrupts, the others are cancelled."""
        try:
            with ExitStack() as stack:
                for query in queries:
                    stack.enter_context(self._watch(query))
                return [query.fetch() for query in queries]
        except BaseException:
            for query in queries:
                abandon(query)
            raise

    def _submit_all(self, lfs: Iterable[pl.LazyFrame]) -> list[Query]:
        queries: list[Query] = []
        try:
            queries.extend(self._start(lf) for lf in lfs)
        except BaseException:
            for query in queries:
                abandon(query)
            raise
        return queries

    @overload
    def collect(
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags,
        background: Literal[False] = ...,
        post_opt_callback: PostOptCallback | None = ...,
    ) -> pl.DataFrame: ...

    @overload
    def collect(
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags,
        background: Literal[True],
        post_opt_callback: PostOptCallback | None = ...,
    ) -> InProcessQuery: ...

    @overload
    def collect(
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags,
        background: bool,
        post_opt_callback: PostOptCallback | None = ...,
    ) -> pl.DataFrame | InProcessQuery: ...

    def collect(
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags,
        background: bool = False,
        post_opt_callback: PostOptCallback | None = None,
    ) -> pl.DataFrame | InProcessQuery:
        """See :meth:`polars.LazyFrame.collect`.

        Raises
        ------
        NotImplementedError
            For a `post_opt_callback`: there is no optimised plan in this process.
        """
        if post_opt_callback is not None:
            raise NotImplementedError("frazil has no optimised plan in this process: post_opt_callback is not supported")
        if background:
            return BackgroundQuery(self._start(lf))
        try:
            query = self._start(lf)
        except SeveralSinksError as several:
            self._gather(self._submit_all(several.sinks))
            return pl.DataFrame()
        except TableSinkError as table:
            return table.sink.commit(self._written_files(table.sink.lf))
        return self._gather([query])[0]

    def _written_files(self, sink: pl.LazyFrame) -> list[WrittenFile]:
        """Run a query that ends in a sink, and return the files that are there then."""
        query = self._start(sink)
        self._gather([query])
        return msgspec.convert(cast("dict[str, Any]", query.profile()["sink"])["file_list"], list[WrittenFile])

    def execute(self, lf: pl.LazyFrame, *, optimizations: pl.QueryOptFlags) -> QueryResult:
        """See :meth:`polars.LazyFrame.execute`; the result is brought to this process."""
        return SingleNodeQueryResult(self.collect(lf, optimizations=optimizations))

    def collect_async(  # type: ignore[override]  # polars names its two private result classes; ours extends one
        self, lf: pl.LazyFrame, *, optimizations: pl.QueryOptFlags, gevent: bool = False
    ) -> AsyncResult:
        """See :meth:`polars.LazyFrame.collect_async`; cancelling the awaitable cancels the query.

        Raises
        ------
        NotImplementedError
            For gevent.
        """
        _refuse_gevent(gevent)
        return AsyncResult(lambda: self._submit_all([lf]), lambda queries: self._gather(queries)[0])

    def collect_batches(  # type: ignore[override]  # polars names its private iterator class; ours has the same methods
        self,
        lf: pl.LazyFrame,
        *,
        optimizations: pl.QueryOptFlags,
        maintain_order: bool = True,
        chunk_size: int | None = None,
        lazy: bool = False,
    ) -> QueryBatches:
        """See :meth:`polars.LazyFrame.collect_batches`; the order of rows is kept also without `maintain_order`."""
        return self._batches(lf, chunk_size=chunk_size, lazy=lazy)

    def _batches(self, lf: pl.LazyFrame, *, chunk_size: int | None = None, lazy: bool = False) -> QueryBatches:
        return QueryBatches(lambda: self._start(lf), schema=lf.collect_schema, chunk_size=chunk_size, lazy=lazy)

    def collect_all(self, lfs: Iterable[pl.LazyFrame], *, optimizations: pl.QueryOptFlags) -> list[pl.DataFrame]:
        """See :func:`polars.collect_all`; queries that share work run as one, and all of them at the same time."""
        groups = together(list(lfs))
        return in_order(groups, self._gather(self._submit_all(group.lf for group in groups)))

    def collect_all_async(  # type: ignore[override]  # as collect_async
        self, lfs: Iterable[pl.LazyFrame], *, optimizations: pl.QueryOptFlags, gevent: bool = False
    ) -> AsyncResult:
        """See :func:`polars.collect_all_async`; cancelling the awaitable cancels the queries."""
        _refuse_gevent(gevent)
        groups = together(list(lfs))
        return AsyncResult(
            lambda: self._submit_all(group.lf for group in groups), lambda queries: in_order(groups, self._gather(queries))
        )


def _refuse_gevent(gevent: bool) -> None:
    if gevent:
        raise NotImplementedError("frazil does not support gevent: await the result with asyncio, or use engine.submit(lf)")
