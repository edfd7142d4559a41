"""``frazil top``: functions, slots, queues, queries and their stages, again and again until it is told to end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from frazil._remote import RemoteSession
from frazil.cli import _common, _queries
from frazil_coordinator.status import QueryStatus, Wanted

__all__ = ["top"]

_STATE_STYLES: Final = {"running": "cyan", "planning": "cyan", "queued": "yellow", "succeeded": "green", "failed": "red"}
_BAR_CHARACTERS: Final = 24
_QUERIES_IN_STAGES: Final = 4


def top(
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    limit: _queries.Limit = 15,
    label: _queries.Label = None,
    tenant: _queries.Tenant = None,
    interval_s: Annotated[float, typer.Option("--interval-s", min=0.1, help="Seconds between looks.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Look once, and print JSON.")] = False,
) -> None:
    """Watch functions, queues, queries and stages of a coordinator, until Ctrl-C.

    Without a terminal it looks once.
    """
    session = _common.remote_session(url, token, profile_name)
    wanted = Wanted(limit=limit, label=label, tenant=tenant)
    try:
        cluster, found = _look(session, wanted)
        if as_json:
            document = {"cluster": cluster, "queries": msgspec.to_builtins(found)}
            _common.print_json(document)
        elif not sys.stdout.isatty():
            Console(soft_wrap=True, highlight=False).print(_view(cluster, found, time.time()))
        else:
            _watch(session, wanted, _view(cluster, found, time.time()), interval_s)
    finally:
        session.close()


def _watch(session: RemoteSession, wanted: Wanted, first: RenderableType, interval_s: float) -> None:
    with Live(first, console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval_s)
            live.update(_view(*_look(session, wanted), time.time()), refresh=True)


def _look(session: RemoteSession, wanted: Wanted) -> tuple[dict[str, Any], tuple[QueryStatus, ...]]:
    """Return the cluster and queries: those that have not ended first, the newest of each first."""
    found = session.wanted(wanted)
    return session.cluster(), tuple(sorted(found, key=lambda status: status.state.ended))


def _view(cluster: Mapping[str, Any], found: tuple[QueryStatus, ...], now: float) -> RenderableType:
    parts: list[RenderableType] = [_head(cluster), _tenants(cluster), Rule(style="dim"), _rows(found, now)]
    running = [status for status in found if status.progress and not status.state.ended][:_QUERIES_IN_STAGES]
    for status in running:
        parts += [Rule(Text(f"{status.id}  {', '.join(status.labels)}"), align="left", style="dim"), _stages(status)]
    return Group(*parts)


def _head(cluster: Mapping[str, Any]) -> Text:
    functions, slots = cluster["functions"], cluster["slots"]
    died = f", {functions['died_total']} died" if functions["died_total"] else ""
    leads = "" if cluster["leadership"]["leader"] else "   does not lead"
    return Text(
        f"functions {functions['running']} ({functions['busy']} busy, {functions['idle']} idle; "
        f"{functions['started_total']} started{died})   "
        f"slots {slots['taken']}/{slots['limit']}, {slots['wanted']} wanted{leads}",
        style="bold",
    )


def _tenants(cluster: Mapping[str, Any]) -> Table:
    table = Table("tenant", "running", "waiting", "longest wait", "tasks", "wanted", box=None, pad_edge=False)
    for one in cluster["tenants"]:
        quotas = one["quotas"]
        running = sum(one["queries"].values()) - one["waiting"]
        table.add_row(
            Text(one["name"]),
            _of(running, quotas["max_running_queries"]),
            _of(one["waiting"], quotas["max_queued_queries"]),
            f"{one['oldest_waiting_s']:.0f} s" if one["waiting"] else "",
            _of(one["tasks"], quotas["max_running_tasks"]),
            str(one["wanted"]),
        )
    return table


def _of(value: int, limit: int | None) -> str:
    return str(value) if limit is None else f"{value}/{limit}"


def _rows(found: tuple[QueryStatus, ...], now: float) -> RenderableType:
    if not found:
        return Text("no query", style="dim")
    table = _queries.table_of(found, now)
    for row, status in zip(table.rows, found, strict=True):
        row.style = _STATE_STYLES.get(status.state.value, "")
    return table


def _stages(status: QueryStatus) -> Table:
    table = Table.grid(padding=(0, 2))
    for stage in status.progress:
        if not stage.tasks:
            continue
        again = stage.attempts - stage.done - stage.running
        table.add_row(
            f"{stage.stage:>3} {stage.kind}",
            ProgressBar(total=max(1, stage.tasks), completed=stage.done, width=_BAR_CHARACTERS),
            f"{stage.done}/{stage.tasks}",
            f"{stage.running} running" if stage.running else "",
            f"{stage.rows:,} rows",
            f"{again} retried" if again > 0 else "",
        )
    return table
