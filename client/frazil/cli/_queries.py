"""``frazil queries`` and ``frazil cancel``: what a coordinator runs, and stopping it."""

from __future__ import annotations

import time
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from frazil._remote import RemoteSession
from frazil.cli import _common
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import RequestError
from frazil_functions.ids import QueryId

__all__ = ["cancel", "queries"]

_ERROR_CHARACTERS: Final = 80

_Address = Annotated[str, typer.Option("--url", envvar="FRAZIL_URL", help="Address of the coordinator.")]
_DEFAULT_ADDRESS: Final = "http://127.0.0.1:8080"


def queries(
    url: _Address = _DEFAULT_ADDRESS,
    token: _common.Token = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show at most so many.")] = 20,
    state: Annotated[QueryState | None, typer.Option("--state", help="Only queries in this state.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Only queries with this label.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the newest queries of a coordinator."""
    session = _session(url, token)
    found = session.queries(limit=limit, state=state, label=label)
    session.close()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    table = Table("id", "state", "labels", "age", "seconds", "tasks", "rows", "error", box=None, pad_edge=False)
    for one in found:
        table.add_row(*_cells(one, time.time()))
    Console(soft_wrap=True, highlight=False).print(table)


def cancel(
    query: Annotated[str, typer.Argument(metavar="ID", help="The query's id, as `frazil queries` shows it.")],
    url: _Address = _DEFAULT_ADDRESS,
    token: _common.Token = None,
) -> None:
    """Stop a query, and delete what it left."""
    session = _session(url, token)
    session.cancel(QueryId(query))
    state = session.status(QueryId(query)).state
    session.close()
    _common.note(f"query {query} is {state.value}")


def _session(url: str, token: str | None) -> RemoteSession:
    try:
        return RemoteSession(url, token=token, timeout_s=10.0)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


def _cells(status: QueryStatus, now: float) -> tuple[str, ...]:
    ended = now if status.ended_unix_s is None else status.ended_unix_s
    done, tasks = (sum(getattr(stage, name) for stage in status.progress) for name in ("done", "tasks"))
    error = "" if status.error is None else status.error.message.splitlines()[0][:_ERROR_CHARACTERS]
    return (
        status.id,
        status.state.value,
        ",".join(status.labels),
        f"{now - status.submitted_unix_s:.0f} s",
        f"{ended - status.submitted_unix_s:.1f}",
        f"{done}/{tasks}",
        "" if status.rows is None else f"{status.rows:,}",
        error,
    )
