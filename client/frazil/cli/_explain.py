"""``frazil explain``: how a query, or every query of a script, would be cut into stages; nothing runs."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence

import polars as pl
import typer

from frazil._engine import Engine
from frazil._session import Session
from frazil.cli import _common, _run
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus
from frazil_functions.ids import QueryId

__all__ = ["explain"]


def explain(
    file: _run.File,
    arguments: _run.Arguments = None,
    url: _common.Url = None,
    token: _common.Token = None,
    table: _common.Tables = None,
    storage_option: _common.TableOptions = None,
) -> None:
    """Show the stages of a SQL query, or of every query that a script would collect.

    A script runs, but its queries don't: each gives an empty result, so a script that needs rows may stop early.
    """
    sql = _run.is_sql(file, arguments)
    tables, table_options = _common.pairs(table, "--table"), _common.pairs(storage_option, "--storage-option")
    session = _common.engine_session(
        url=url, token=token, max_functions=None, store=None, store_options=None, memory_limit=None, idle_s=0.0
    )
    plans = _PlansOnly(session)
    with _common.terminated_as_exit(), Engine(plans) as engine:
        if sql:
            typer.echo(engine.explain(_common.sql_query(file.read_text(), tables, table_options)))
            return
        try:
            _run.run_script(file, arguments or (), engine)
        except _common.ScriptError as error:
            _common.note(f"frazil: {error}\nThe script stopped after {plans.shown} plans: nothing runs, so it had no rows.")
            raise typer.Exit(_common.EXIT_FAILED) from error
        if not plans.shown:
            _common.note("frazil: the script collects no LazyFrame that names no engine")


class _PlansOnly:
    """A session that shows the plan of every query that is submitted to it, and answers with no rows."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self._plans: list[bytes] = []

    @property
    def shown(self) -> int:
        return len(self._plans)

    @property
    def settings(self) -> Settings:
        return self._inner.settings

    def submit(self, plan: bytes, labels: Sequence[str]) -> QueryStatus:
        explanation = self._inner.explain(plan)
        typer.echo(("\n" if self._plans else "") + f"query {len(self._plans)}" + "".join(f" {one}" for one in labels))
        typer.echo(explanation.text)
        self._plans.append(plan)
        return self.status(QueryId(str(len(self._plans) - 1)))

    def status(self, query: QueryId) -> QueryStatus:
        return QueryStatus(id=query, state=QueryState.SUCCEEDED, submitted_unix_s=time.time())

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        del timeout_s
        return self.status(query)

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        yield QueryEvent(kind="state", status=self.status(query))

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        plan = pl.LazyFrame.deserialize(io.BytesIO(self._plans[int(query)]))
        yield pl.DataFrame(schema=plan.collect_schema())

    def plan(self, query: QueryId) -> Explanation:
        return self._inner.explain(self._plans[int(query)])

    def profile(self, query: QueryId) -> dict[str, object]:
        return {"query": query, "stages": []}

    def cancel(self, query: QueryId) -> None:
        del query  # nothing runs

    def explain(self, plan: bytes) -> Explanation:
        return self._inner.explain(plan)

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        return self._inner.queries(limit=limit, state=state, label=label)

    def close(self) -> None:
        self._inner.close()
