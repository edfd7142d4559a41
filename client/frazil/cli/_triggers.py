"""``frazil triggers``: stored queries that run when objects arrive (docs/triggers.md)."""

from __future__ import annotations

import datetime as dt
from contextlib import closing
from pathlib import Path
from typing import Annotated, get_args

import msgspec
import typer
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from frazil._remote import RemoteSession
from frazil.cli import _common
from frazil_coordinator.events.model import Mode, SinkFormat, TriggerSource, TriggerView, Window
from frazil_functions.errors import RequestError

__all__ = ["triggers_app"]

_WIDE = 4000

triggers_app = typer.Typer(help="Stored queries that run when objects arrive.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, _ and -.")]
_Version = Annotated[int | None, typer.Option("--if-version", min=0, help="Only if it is of this version; 0: if it is new.")]


def _session(url: str | None, token: str | None, profile_name: str | None) -> closing[RemoteSession]:
    return closing(_common.remote_session(url, token, profile_name))


@triggers_app.command("list")
def list_triggers(
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """List the triggers, and how far their outputs are behind."""
    with _session(url, token, profile_name) as session:
        found = session.triggers.list()
    if as_json:
        _common.print_json(found)
        return
    grid = Grid("name", "mode", "state", "objects", "pending", "oldest", "dead", "source", "sink", box=None, pad_edge=False)
    for view in found:
        trigger, status = view.trigger, view.status
        grid.add_row(*(Text(cell) for cell in (
            trigger.name, trigger.mode, status.state, f"{status.objects:,}", f"{status.lag.pending_objects:,}",
            f"{status.lag.oldest_s:.0f} s", f"{status.dead_letters:,}", trigger.source + "*" + trigger.suffix, trigger.sink,
        )))  # fmt: skip
    console = Console(soft_wrap=True, highlight=False)
    # Into a pipe, whole lines: nobody there has a width.
    (console if console.is_terminal else Console(width=_WIDE, highlight=False)).print(grid)


@triggers_app.command("show")
def show_trigger(
    name: _Name,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Show a trigger, what it has done, and what it does now."""
    with _session(url, token, profile_name) as session:
        view = session.triggers.show(name)
    if as_json:
        _common.print_json(view)
    else:
        typer.echo(_told(view))


def _told(view: TriggerView) -> str:
    trigger, status = view.trigger, view.status
    limits = (("objects", trigger.window.count), ("bytes", trigger.window.bytes), ("s", trigger.window.seconds))
    window = ", ".join(f"{value:,} {unit}" for unit, value in limits if value is not None) or "at once"
    published = status.last_published_unix_s
    when = "never" if published is None else dt.datetime.fromtimestamp(published, dt.UTC).isoformat(timespec="seconds")
    lines = [
        f"{trigger.name} (version {trigger.version}): {trigger.mode}, {status.state}"
        + (f": {status.reason}" if status.reason else ""),
        f"  {trigger.source}*{trigger.suffix} -> {trigger.sink}",
        f"  window: {window}",
        f"  in the output: {status.objects:,} objects, {status.bytes:,} bytes",
        f"  written: {status.rows:,} rows in {status.files:,} files",
        f"  pending: {status.lag.pending_objects:,} objects, the oldest for {status.lag.oldest_s:.0f} s",
        f"  dead letters: {status.dead_letters:,}",
        f"  last published: {when}",
        f"  last query: {status.last_query or 'none'}",
    ]
    return "\n".join(
        [*lines, *([f"  {trigger.sql}"] if trigger.sql else []), *([trigger.comment] if trigger.comment else [])]
    )


@triggers_app.command("put")
def put_trigger(
    name: _Name,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="Folder, or beginning of keys: s3://bucket/in/.")],
    sink: Annotated[str, typer.Option("--sink", help="Folder (ends with /), or one file; a plan may have its own.")] = "",
    sql: Annotated[str, typer.Option("--sql", help="A statement over the coordinator's tables, or @FILE.")] = "",
    plan: Annotated[Path | None, typer.Option("--plan", help="File with the bytes of LazyFrame.serialize().")] = None,
    suffix: Annotated[str, typer.Option("--suffix", help="What the names of objects end with.")] = "",
    mode: Annotated[str, typer.Option("--mode", help=", ".join(get_args(Mode)))] = "append",
    count: Annotated[int | None, typer.Option("--count", help="Take up so many objects together.")] = None,
    bytes_: Annotated[int | None, typer.Option("--bytes", help="Take up so many bytes together.")] = None,
    seconds: Annotated[float | None, typer.Option("--seconds", help="Wait no longer than this for others.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help=f"{', '.join(get_args(SinkFormat))}; by default by the sink's suffix.")
    ] = None,
    storage_option: Annotated[
        list[str] | None, typer.Option("--storage-option", metavar="KEY=VALUE", help="Of the sink's store.")
    ] = None,
    backfill: Annotated[bool, typer.Option("--backfill/--no-backfill", help="Whether what is there counts as new.")] = True,
    max_attempts: Annotated[int, typer.Option("--max-attempts", help="Failures until an object is given up.")] = 3,
    list_every_s: Annotated[float, typer.Option("--list-every-s", help="Seconds between listings.")] = 60.0,
    comment: Annotated[str, typer.Option("--comment", help="For people.")] = "",
    if_version: _Version = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Make or replace a trigger."""
    given = {
        "source": source,
        "suffix": suffix,
        "sql": Path(sql[1:]).read_text(encoding="utf-8") if sql.startswith("@") else sql,
        "sink": sink,
        "format": format_,
        "storage_options": _common.pairs(storage_option, "--storage-option"),
        "mode": mode,
        "backfill": backfill,
        "max_attempts": max_attempts,
        "list_every_s": list_every_s,
        "comment": comment,
    }
    try:
        made = msgspec.convert(given, TriggerSource)
        window = Window(count=count, bytes=bytes_, seconds=seconds)
        body = b"" if plan is None else plan.read_bytes()
        made = msgspec.structs.replace(made, plan=body, window=window).checked()
    except (msgspec.ValidationError, RequestError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    with _session(url, token, profile_name) as session:
        trigger = session.triggers.put(name, made, if_version)
    if as_json:
        _common.print_json(trigger)
    else:
        _common.note(f"trigger {name} is of version {trigger.version}")


@triggers_app.command("drop")
def drop_trigger(
    name: _Name,
    if_version: _Version = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
) -> None:
    """Drop a trigger and what it remembers; its output stays."""
    with _session(url, token, profile_name) as session:
        session.triggers.drop(name, if_version)
    _common.note(f"trigger {name} is dropped")


@triggers_app.command("pause")
def pause_trigger(
    name: _Name, url: _common.Url = None, token: _common.Token = None, profile_name: _common.ProfileName = None
) -> None:
    """Start no more windows; one that runs comes to its end."""
    with _session(url, token, profile_name) as session:
        session.triggers.pause(name, paused=True)
    _common.note(f"trigger {name} is paused")


@triggers_app.command("resume")
def resume_trigger(
    name: _Name, url: _common.Url = None, token: _common.Token = None, profile_name: _common.ProfileName = None
) -> None:
    """Go on after a pause, or after whatever halted the trigger was mended."""
    with _session(url, token, profile_name) as session:
        session.triggers.pause(name, paused=False)
    _common.note(f"trigger {name} goes on")


@triggers_app.command("run")
def run_trigger(
    name: _Name, url: _common.Url = None, token: _common.Token = None, profile_name: _common.ProfileName = None
) -> None:
    """List the source now, and take up what is new, whatever the window says."""
    with _session(url, token, profile_name) as session:
        session.triggers.run(name)
    _common.note(f"trigger {name} takes up what is new")


@triggers_app.command("replay")
def replay_trigger(
    name: _Name,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Time of modification, ISO 8601; without a zone UTC. 0: all.")
    ],
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
) -> None:
    """Let all objects modified since a time be new again; the files of the output stay."""
    with _session(url, token, profile_name) as session:
        session.triggers.replay(name, _time(since))
    _common.note(f"trigger {name} takes up again what was modified since {since}")


def _time(text: str) -> float:
    try:
        if text.strip() == "0":
            return 0.0
        found = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"--since takes a time such as 2026-11-30T12:00:00+01:00, not {text!r}") from error
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).timestamp()


@triggers_app.command("dead-letters")
def dead_letters(
    name: _Name,
    retry: Annotated[bool, typer.Option("--retry", help="Try them again.")] = False,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Show the objects that a trigger gave up, and why."""
    with _session(url, token, profile_name) as session:
        if retry:
            _common.note(f"{session.triggers.revive(name, None)} objects are tried again")
            return
        found = session.triggers.dead(name)
    if as_json:
        _common.print_json(found)
        return
    for letter in found:
        typer.echo(f"{letter.object.url}: {letter.kind}, {letter.attempts} attempts: {letter.reason}")
