"""The command line ``frazil`` (docs/cli.md).

Data goes to standard output, everything else to standard error. Errors are one message and an exit code:
0 done, 1 the query (or script) failed, 2 bad usage, 3 the coordinator can't be reached, 130 interrupted.
Each command is a module of this package; :mod:`frazil.cli._common` holds what they share.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
from typing import Annotated

import polars as pl
import typer

from frazil._session import UnreachableError
from frazil.cli import _common, _deploy, _doctor, _explain, _queries, _replay, _run, _serve, _sql, _token, _top, _triggers
from frazil_functions.errors import FrazilError

__all__ = ["main"]

_app = typer.Typer(
    name="frazil",
    help="Polars queries on functions that scale from zero.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_app.command("serve")(_serve.serve)
_app.command("run", cls=_common.FileCommand)(_run.run)
_app.command("explain", cls=_common.FileCommand)(_explain.explain)
_app.command("queries")(_queries.queries)
_app.command("cancel")(_queries.cancel)
_app.command("replay")(_replay.replay)
_app.command("top")(_top.top)
_app.command("sql")(_sql.sql)
_app.add_typer(_sql.tables_app, name="tables")
_app.add_typer(_triggers.triggers_app, name="triggers")
_app.command("token")(_token.token)
_app.command("doctor")(_doctor.doctor)
_app.command("deploy")(_deploy.deploy)
_app.command("undeploy")(_deploy.undeploy)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"frazil {importlib.metadata.version('frazil')} (polars {pl.__version__})")
        raise typer.Exit


@_app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", envvar="FRAZIL_DEBUG", help="Show tracebacks of errors.")] = False,
) -> None:
    del version
    if debug:
        os.environ["FRAZIL_DEBUG"] = "1"


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        _app()
    except (Exception, pl.exceptions.PanicException) as caught:  # whatever it is becomes one message and an exit code
        error = _common.innermost(caught)
        if os.environ.get("FRAZIL_DEBUG"):
            traceback.print_exception(error)
        else:
            _common.complain(error)
        sys.exit(_exit_code(error))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UnreachableError):
        return _common.EXIT_UNREACHABLE
    if isinstance(error, (FrazilError, pl.exceptions.PolarsError, pl.exceptions.PanicException)):
        return _common.EXIT_FAILED
    return _common.EXIT_USAGE if isinstance(error, ImportError) else _common.EXIT_FAILED
