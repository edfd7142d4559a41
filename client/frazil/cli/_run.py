"""``frazil run``: an unmodified polars script, or a SQL query, on functions."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from frazil._engine import Engine
from frazil._query import Query
from frazil._remote import RemoteSession
from frazil._session import UnreachableError
from frazil.cli import _common
from frazil.cli._plans import PlansOnly, show
from frazil_coordinator.status import QueryState
from frazil_functions.errors import FrazilError

__all__ = ["Arguments", "File", "Format", "is_sql", "plan_script", "run", "run_script"]

_TABLE_ROWS = 100


class Format(StrEnum):
    """How a result is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


File = Annotated[Path, typer.Argument(metavar="SCRIPT.py|QUERY.sql", exists=True, dir_okay=False, readable=True)]
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script.")]


def run(
    file: File,
    arguments: Arguments = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    max_functions: _common.MaxFunctions = None,
    store: _common.Store = None,
    store_option: _common.StoreOptions = None,
    memory_limit: _common.MemoryLimit = None,
    idle_s: _common.Idle = 30.0,
    table: _common.Tables = None,
    storage_option: _common.TableOptions = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Of a SQL result; by default by the name of --output, else a table.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Write the SQL result here, not to the screen.")
    ] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", dir_okay=False, help="Write what the queries used, as JSON.")
    ] = None,
    priority: Annotated[
        int,
        typer.Option("--priority", min=-10, max=10, help="Of the queries among your tenant's; the highest first."),
    ] = 0,
    reuse: _common.ReuseOption = None,
    max_age: _common.MaxAge = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan the queries, estimate them and check caps; run nothing.")
    ] = False,
) -> None:
    """Run a polars script, or a SQL query over Parquet tables, on functions.

    A script needs no change: every LazyFrame that it collects without naming an engine runs distributed. Options go before
    a script; what follows it is the script's own.
    """
    sql = is_sql(file, arguments)
    format_ = format_ or format_of(output)
    if sql and format_ is Format.PARQUET and output is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is not for a terminal: name a file by --output")
    tables, table_options = _common.pairs(table, "--table"), _common.pairs(storage_option, "--storage-option")
    session = _common.engine_session(
        url=url, token=token, profile_name=profile_name, max_functions=max_functions, store=store,
        store_options=store_option,
        memory_limit=memory_limit, idle_s=idle_s,
    )  # fmt: skip
    if dry_run:
        plans = PlansOnly(session, dry_run=True)
        with _common.terminated_as_exit(), Engine(plans) as engine:
            if sql:
                show(engine.submit(_common.sql_query(file.read_text(), tables, table_options), dry_run=True), as_json=False)
            else:
                plan_script(file, arguments or (), engine, plans)
        return
    watched, reusing = _common.Watched(), _common.reusing(reuse, max_age)
    with _common.terminated_as_exit(), _common.make_engine(session, watched, priority, reusing) as engine:
        try:
            if sql:
                frame = _common.sql_query(file.read_text(), tables, table_options).collect(engine=engine)
                write(frame, format_, output)
            else:
                run_script(file, arguments or (), engine)
        except (Exception, pl.exceptions.PanicException) as error:
            if isinstance(session, RemoteSession) and watched.queries:
                _tell_of_replay(error, watched.queries[-1])
            raise
        finally:
            if profile is not None:
                queries = [query.profile() for query in watched.queries]
                profile.write_text(json.dumps({"queries": queries}, indent=2) + "\n")


def _tell_of_replay(error: BaseException, query: Query) -> None:
    """Say in an error how the task that failed can be looked at, if one did."""
    with suppress(FrazilError):  # that the coordinator does not answer now is not what went wrong
        status = query.status()
        where = {} if status.error is None else status.error.where
        if status.state is QueryState.FAILED and {"stage", "task"} <= where.keys():
            error.add_note(f"to run that task again here: frazil replay {query.id}/{where['stage']}/{where['task']}")


def is_sql(file: Path, arguments: Sequence[str] | None) -> bool:
    """Return whether `file` is a query rather than a script; anything else is bad usage."""
    if file.suffix not in (".py", ".sql"):
        raise typer.BadParameter(f"{file} is neither a script (.py) nor a query (.sql)")
    if file.suffix == ".sql" and arguments:
        raise typer.BadParameter(f"a query takes no arguments: {' '.join(arguments)}")
    return file.suffix == ".sql"


def format_of(output: Path | None) -> Format:
    """Return the format that a file's suffix stands for; without one, a table."""
    suffix = "" if output is None else output.suffix.removeprefix(".")
    return Format(suffix) if suffix in tuple(Format) else Format.TABLE


def plan_script(file: Path, arguments: Sequence[str], engine: Engine, plans: PlansOnly) -> None:
    """Run a script whose queries only show their plans; one that stops because it has no rows is a failure.

    Raises
    ------
    typer.Exit
        When the script stopped early.
    """
    try:
        run_script(file, arguments, engine)
    except _common.ScriptError as error:
        why = "" if isinstance(error.__cause__, FrazilError) else ": nothing runs, so it had no rows"
        _common.note(f"frazil: {error}\nThe script stopped after {plans.shown} plans{why}.")
        raise typer.Exit(_common.EXIT_FAILED) from error
    if not plans.shown:
        _common.note("frazil: the script collects no LazyFrame that names no engine")


def run_script(file: Path, arguments: Sequence[str], engine: Engine) -> None:
    """Run a script as ``python FILE ARGS`` does, with `engine` for every query that names none.

    Raises
    ------
    SystemExit
        When the script exits.
    frazil.cli._common.ScriptError
        When the script raises anything else.
    """
    with _as_main(file, arguments), pl.Config(engine_affinity=engine):
        try:
            runpy.run_path(str(file), run_name="__main__")
        except (Exception, pl.exceptions.PanicException) as error:
            if isinstance(error, UnreachableError):
                raise
            raise _common.ScriptError(_where(error, file)) from error


@contextmanager
def _as_main(file: Path, arguments: Sequence[str]) -> Iterator[None]:
    before = sys.argv, sys.path
    sys.argv, sys.path = [str(file), *arguments], [str(file.absolute().parent), *sys.path]
    try:
        yield
    finally:
        sys.argv, sys.path = before


def _where(error: BaseException, file: Path) -> str:
    """Return one message: the line of the script, the class, the text, the notes."""
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if Path(entry.filename) == file]
    place = f"{file}:{lines[-1]}" if lines else str(file)
    return f"{place}: {type(error).__name__}: {error}{_common.notes_of(error)}"


def write(frame: pl.DataFrame, format_: Format, output: Path | None) -> None:
    """Write a result to a file, or to standard output."""
    data = _encoded(frame, format_)
    if output is not None:
        output.write_bytes(data)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _encoded(frame: pl.DataFrame, format_: Format) -> bytes:
    match format_:
        case Format.CSV:
            return frame.write_csv().encode()
        case Format.JSON:
            return f"{frame.write_json()}\n".encode()
        case Format.PARQUET:
            buffer = io.BytesIO()
            frame.write_parquet(buffer)
            return buffer.getvalue()
        case Format.TABLE:
            width = shutil.get_terminal_size((120, 24)).columns
            with pl.Config(tbl_rows=_TABLE_ROWS, tbl_cols=-1, tbl_width_chars=width, fmt_str_lengths=width):
                return f"{frame}\n".encode()
