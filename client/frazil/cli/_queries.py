"""``frazil queries`` and ``frazil cancel``: what a coordinator runs, and stopping it."""

from __future__ import annotations

import re
import time
from contextlib import closing
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from frazil.cli import _common
from frazil_coordinator.status import QueryState, QueryStatus, Wanted
from frazil_functions.ids import QueryId

__all__ = ["Label", "Limit", "Since", "State", "Tenant", "TextFilter", "cancel", "queries", "since_unix_s", "table_of"]

_ERROR_CHARACTERS: Final = 80
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_COLUMNS: Final = ("id", "state", "tenant", "labels", "age", "seconds", "tasks", "rows", "error")

Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Show at most so many.")]
State = Annotated[QueryState | None, typer.Option("--state", help="Only queries in this state.")]
Label = Annotated[str | None, typer.Option("--label", help="Only queries with this label.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only queries of this tenant.")]
TextFilter = Annotated[
    str | None, typer.Option("--text", help="Only with this in the id, a label, the tenant or the error.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="AGE|TIME", help="Only submitted since then: 90s, 30m, 2h, 1d, or 2026-11-30T08:00."),
]


def queries(
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    limit: Limit = 20,
    state: State = None,
    label: Label = None,
    tenant: Tenant = None,
    since: Since = None,
    text: TextFilter = None,
    as_json: _common.AsJson = False,
) -> None:
    """List the newest queries of a coordinator."""
    wanted = Wanted(limit=limit, state=state, label=label, tenant=tenant, text=text, since_unix_s=since_unix_s(since))
    with closing(_common.remote_session(url, token, profile_name)) as session:
        found = session.wanted(wanted)
    if as_json:
        _common.print_json(found)
        return
    Console(soft_wrap=True, highlight=False).print(table_of(found, time.time()))


def cancel(
    query: Annotated[str, typer.Argument(metavar="ID", help="The query's id, as `frazil queries` shows it.")],
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Stop a query, and delete what it left."""
    with closing(_common.remote_session(url, token, profile_name)) as session:
        session.cancel(QueryId(query))
        status = session.status(QueryId(query))
    if as_json:
        _common.print_json(status)
        return
    _common.note(f"query {query} is {status.state.value}")


def since_unix_s(text: str | None) -> float | None:
    """Return a time in seconds since 1970: an age before now, or a time (of this machine's zone, unless it names one).

    Raises
    ------
    typer.BadParameter
        When it is neither.
    """
    if text is None:
        return None
    if (age := _AGE.fullmatch(text.strip())) is not None:
        return max(0.0, time.time() - float(age[1]) * _UNIT_S[age[2]])
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except ValueError as error:
        raise typer.BadParameter(f"--since takes an age (90s, 30m, 2h, 1d, 1w) or a time, not {text!r}") from error


def table_of(found: tuple[QueryStatus, ...], now: float) -> Table:
    """Return queries as a table; what strangers wrote is no markup."""
    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for one in found:
        table.add_row(*(Text(cell) for cell in _cells(one, now)))
    return table


def _cells(status: QueryStatus, now: float) -> tuple[str, ...]:
    ended = now if status.ended_unix_s is None else status.ended_unix_s
    done, tasks = (sum(getattr(stage, name) for stage in status.progress) for name in ("done", "tasks"))
    why = status.waits_for and f"waits for {status.waits_for}" if status.error is None else status.error.message
    return (
        status.id,
        status.state.value,
        status.tenant,
        ",".join(status.labels),
        f"{now - status.submitted_unix_s:.0f} s",
        f"{ended - status.submitted_unix_s:.1f}",
        f"{done}/{tasks}",
        "" if status.rows is None else f"{status.rows:,}",
        "".join(why.splitlines()[:1])[:_ERROR_CHARACTERS],
    )
