"""``frazil explain``: how a query, or every query of a script, would be cut into stages, and what it would cost."""

from __future__ import annotations

from typing import Annotated

import typer

from frazil._engine import Engine
from frazil.cli import _common, _run
from frazil.cli._plans import PlansOnly, show

__all__ = ["explain"]


def explain(
    file: _run.File,
    arguments: _run.Arguments = None,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="Run the queries, and show what they did beside what was expected.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one document a query.")] = False,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    max_functions: _common.MaxFunctions = None,
    store: _common.Store = None,
    store_option: _common.StoreOptions = None,
    memory_limit: _common.MemoryLimit = None,
    table: _common.Tables = None,
    storage_option: _common.TableOptions = None,
) -> None:
    """Show the stages of a SQL query, or of every query that a script would collect.

    Without --analyze nothing runs: a script runs, but each of its queries gives an empty result, so a script that needs rows
    may stop early.
    """
    sql = _run.is_sql(file, arguments)
    tables, table_options = _common.pairs(table, "--table"), _common.pairs(storage_option, "--storage-option")
    session = _common.engine_session(
        url=url, token=token, profile_name=profile_name, max_functions=max_functions, store=store,
        store_options=store_option,
        memory_limit=memory_limit, idle_s=30.0 if analyze else 0.0,
    )  # fmt: skip
    if analyze:
        watched = _common.Watched()
        with _common.terminated_as_exit(), _common.make_engine(session, watched) as engine:
            if sql:
                show(engine.explanation(_common.sql_query(file.read_text(), tables, table_options), analyze=True), as_json)
                return
            try:
                _run.run_script(file, arguments or (), engine)
            finally:
                for query in watched.queries:
                    show(query.explanation(analyze=True), as_json)
        return
    plans = PlansOnly(session, as_json=as_json)
    with _common.terminated_as_exit(), Engine(plans) as engine:
        if sql:
            show(engine.explanation(_common.sql_query(file.read_text(), tables, table_options)), as_json)
        else:
            _run.plan_script(file, arguments or (), engine, plans)
