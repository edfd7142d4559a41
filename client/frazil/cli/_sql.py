"""``frazil sql`` and ``frazil tables``: statements over a coordinator's tables, and the tables themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from frazil._engine import Engine
from frazil.cli import _common
from frazil.cli._plans import show
from frazil.cli._run import Format, format_of, write
from frazil_coordinator.catalog.model import CatalogTable, TableFormat, TableSource
from frazil_coordinator.catalog.parameters import Parameters
from frazil_coordinator.status import Explanation

__all__ = ["sql", "tables_app"]

_EXPLAIN: Final = re.compile(r"\s*(?:--[^\n]*\n\s*)*EXPLAIN\b", re.IGNORECASE)
_PLACE: Final = re.compile(r"(?<!:):[A-Za-z_]")

tables_app = typer.Typer(help="The tables of a coordinator that SQL knows by name.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and _.")]
_Shown = Annotated[str, typer.Argument(metavar="NAME", help="Of a table, or catalog.namespace.table.")]
_Version = Annotated[int | None, typer.Option("--if-version", min=0, help="Only if it is of this version; 0: if it is new.")]


def sql(
    text: Annotated[str, typer.Argument(metavar="SQL", help="One statement, or @FILE; EXPLAIN [ANALYZE] shows its plan.")],
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="[NAME=]VALUE",
            help='For ? and $1 in order, or for :NAME. JSON (42, 1.5, true, null, "42"), anything else is a text.',
        ),
    ] = None,
    format_: Annotated[Format | None, typer.Option("--format", help="Of the result; by default that of --output.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="File for the result.", dir_okay=False)] = None,
    label: Annotated[list[str] | None, typer.Option("--label", help="What the query is called in lists.")] = None,
    reuse: _common.ReuseOption = None,
    max_age: _common.MaxAge = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: rows, or the plan of EXPLAIN.")] = False,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
) -> None:
    """Run a statement over the tables of a coordinator, and print its result."""
    statement = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    named = _PLACE.search(statement) is not None and all("=" in one for one in parameter or ())
    parameters = _parameters(parameter or (), named=named)
    session = _common.remote_session(url, token, profile_name, settings=_common.settings_from_env())
    watched, reusing = _common.Watched(), _common.reusing(reuse, max_age)
    with _common.terminated_as_exit(), Engine(session, watch=watched.watch, reusing=reusing) as engine:
        if _EXPLAIN.match(statement):
            explanation: Explanation = session.explain_sql(statement, parameters)
            show(explanation, as_json)
            return
        query = engine.sql(statement, parameters, labels=label or ())
        with watched.watch(query):
            frame = query.result()
    write(frame, Format.JSON if as_json else format_ or format_of(output), output)


def _parameters(texts: Sequence[str], *, named: bool) -> Parameters:
    if not named:
        return [_value(text) for text in texts]
    pairs = (text.partition("=") for text in texts)
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> object:
    """Return the JSON value that a text is; what is none is itself."""
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        return text
    if isinstance(value, (list, dict)):
        raise typer.BadParameter(f"--parameter takes one value, not {text!r}")
    return value


@tables_app.command("list")
def list_tables(
    catalog: Annotated[str | None, typer.Option("--catalog", help="Name of a catalog (`frazil tables catalogs`).")] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Only tables below it.")] = "",
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """List the tables: the tenant's own, or those of a catalog."""
    if namespace and catalog is None:
        raise typer.BadParameter("--namespace is one of a catalog: say which, with --catalog")
    with closing(_common.remote_session(url, token, profile_name)) as session:
        if catalog is not None:
            _list_catalog(session.catalog_tables(catalog, namespace), as_json)
            return
        found = session.tables()
    if as_json:
        _common.print_json(found)
        return
    grid = Grid("name", "format", "columns", "files", "rows", "bytes", "location", "comment", box=None, pad_edge=False)
    for table in found:
        known = table.statistics
        grid.add_row(*(Text(cell) for cell in (
            table.name, table.format, str(len(table.columns)), _number(known.files), _number(known.rows),
            _number(known.bytes), table.location, table.comment,
        )))  # fmt: skip
    Console(soft_wrap=True, highlight=False).print(grid)


def _list_catalog(found: Sequence[CatalogTable], as_json: bool) -> None:  # a flag of the command
    if as_json:
        _common.print_json(found)
        return
    grid = Grid("name", "namespace", "table", box=None, pad_edge=False)
    for one in found:
        grid.add_row(Text(one.name), Text(".".join(one.namespace)), Text(one.table))
    Console(soft_wrap=True, highlight=False).print(grid)


@tables_app.command("catalogs")
def list_catalogs(
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """List the catalogs of others whose tables SQL may name: catalog.namespace.table."""
    with closing(_common.remote_session(url, token, profile_name)) as session:
        found = session.catalogs()
    if as_json:
        _common.print_json(found)
        return
    grid = Grid("name", "type", "comment", box=None, pad_edge=False)
    for one in found:
        grid.add_row(Text(one.name), Text(one.type), Text(one.comment))
    Console(soft_wrap=True, highlight=False).print(grid)


@tables_app.command("show")
def show_table(
    name: _Shown,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Show a table: where it lies, and its columns."""
    with closing(_common.remote_session(url, token, profile_name)) as session:
        table = session.table(name)
    if as_json:
        _common.print_json(table)
        return
    version = f" (version {table.version})" if table.version else ""
    snapshot = f", snapshot {table.statistics.snapshot}" if table.statistics.snapshot else ""
    typer.echo(f"{table.name}{version}: {table.format} at {table.location}{snapshot}")
    if table.comment:
        typer.echo(table.comment)
    if table.storage:
        typer.echo(f"storage {table.storage}")
    for kind, options in (("option", table.options), ("storage option", table.storage_options)):
        for option, value in options.items():
            typer.echo(f"{kind} {option} = {json.dumps(value)}")
    for column in table.columns:
        typer.echo(f"  {column.name}: {column.dtype}")


@tables_app.command("put")
def put_table(
    name: _Name,
    location: Annotated[str, typer.Argument(metavar="LOCATION", help="File, folder or glob: absolute path or URL.")],
    format_: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(get_args(TableFormat))}; by default by the suffix.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Of polars' scan_*; VALUE is JSON or a text."),
    ] = None,
    storage_option: Annotated[
        list[str] | None, typer.Option("--storage-option", metavar="KEY=VALUE", help="Of the store; no secrets.")
    ] = None,
    storage: Annotated[str, typer.Option("--storage", help="Storage of the coordinator's configuration, by name.")] = "",
    comment: Annotated[str, typer.Option("--comment", help="For people.")] = "",
    if_version: _Version = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Make or replace a table."""
    given = {
        "location": location,
        "format": format_,
        "options": {key: _value(value) for key, value in _common.pairs(option, "--option").items()},
        "storage_options": _common.pairs(storage_option, "--storage-option"),
        "storage": storage,
        "comment": comment,
    }
    try:
        source = msgspec.convert(given, TableSource)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error
    with closing(_common.remote_session(url, token, profile_name)) as session:
        table = session.put_table(name, source, expected=if_version)
    if as_json:
        _common.print_json(table)
    else:
        _common.note(f"table {name} is of version {table.version}: {len(table.columns)} columns")


@tables_app.command("drop")
def drop_table(
    name: _Name,
    if_version: _Version = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
) -> None:
    """Drop a table; its files stay."""
    with closing(_common.remote_session(url, token, profile_name)) as session:
        session.drop_table(name, expected=if_version)
    _common.note(f"table {name} is dropped")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
