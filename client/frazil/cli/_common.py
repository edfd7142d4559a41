"""What the commands share: exit codes, options, the engine that the options ask for, messages."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from types import FrameType
from typing import Annotated, Final, TypeAlias

import msgspec
import polars as pl
import typer
from rich.console import Console
from typer.core import TyperCommand

from frazil._engine import Engine
from frazil._local import LocalSession
from frazil._parts import local_options
from frazil._progress import ProgressBars
from frazil._query import Query
from frazil._remote import RemoteSession
from frazil._session import Session
from frazil.cli import _config
from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_functions.errors import FrazilError, RequestError

__all__ = [
    "EXIT_FAILED",
    "EXIT_UNREACHABLE",
    "EXIT_USAGE",
    "STDERR",
    "AsJson",
    "FileCommand",
    "Idle",
    "MaxAge",
    "MaxFunctions",
    "MemoryLimit",
    "ProfileName",
    "ReuseKind",
    "ReuseOption",
    "ScriptError",
    "Store",
    "StoreOptions",
    "TableOptions",
    "Tables",
    "Token",
    "Url",
    "Watched",
    "complain",
    "engine_session",
    "innermost",
    "make_engine",
    "note",
    "notes_of",
    "pairs",
    "print_json",
    "remote_session",
    "reusing",
    "settings_from_env",
    "sql_query",
    "terminated_as_exit",
]

_DEFAULT_ADDRESS: Final = "http://127.0.0.1:8080"
_ANSWER_S: Final = 10.0
"""Seconds for which a coordinator may not answer a command that asks for one thing."""

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
_EXIT_TERMINATED: Final = 128 + signal.SIGTERM

STDERR: Final = Console(stderr=True, highlight=False)


class ReuseKind(StrEnum):
    """What `--reuse` takes."""

    OFF = "off"
    TASKS = "tasks"
    RESULT = "result"


Url: TypeAlias = Annotated[
    str | None, typer.Option("--url", envvar="FRAZIL_URL", help="Address of a coordinator; without it, run on this machine.")
]
Token: TypeAlias = Annotated[
    str | None, typer.Option("--token", envvar="FRAZIL_TOKEN", show_envvar=True, help="Token of the coordinator.")
]
ProfileName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--profile-name",
        envvar="FRAZIL_PROFILE",
        help="A profile of the configuration file, in place of --url and --token.",
        autocompletion=_config.profile_names,
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxFunctions: TypeAlias = Annotated[
    int | None, typer.Option("--max-functions", min=1, help="Most function processes on this machine; by default one a CPU.")
]
ReuseOption: TypeAlias = Annotated[
    ReuseKind | None,
    typer.Option("--reuse", help="Take what equal tasks, or an equal query, answered before; leave answers for others."),
]
MaxAge: TypeAlias = Annotated[
    float | None, typer.Option("--max-age", min=0.0, metavar="SECONDS", help="Oldest result that --reuse result takes.")
]
Store: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the exchange store; by default a temporary folder.")
]
StoreOptions: TypeAlias = Annotated[
    list[str] | None, typer.Option("--store-option", metavar="KEY=VALUE", help="Credentials and such of --store.")
]
MemoryLimit: TypeAlias = Annotated[
    str | None, typer.Option("--memory-limit", metavar="SIZE", help="Memory of one function process, e.g. 2GiB.")
]
Idle: TypeAlias = Annotated[
    float, typer.Option("--idle-s", min=0.0, help="Seconds without work after which a function process stops.")
]
Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--table", metavar="NAME=PATH", help="A table of the SQL query: Parquet file, folder, glob or URL."),
]
TableOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--storage-option", metavar="KEY=VALUE", help="Credentials and such of the tables, as in polars."),
]


class ScriptError(Exception):
    """A script raised; its cause is what it raised, its text says where."""


class FileCommand(TyperCommand):
    """A command of a file and its arguments: what follows a script belongs to the script, as with ``python``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own context
        """Let options also follow the file, unless it is a script."""
        ctx.allow_interspersed_args = not any(arg.endswith(".py") for arg in args)
        return super().parse_args(ctx, args)


@dataclass
class Watched:
    """Shows the progress of queries, and remembers them for ``--profile``."""

    queries: list[Query] = field(default_factory=list)
    bars: ProgressBars = field(default_factory=ProgressBars)

    def watch(self, query: Query) -> AbstractContextManager[None]:
        """Do both for one query."""
        self.queries.append(query)
        return self.bars.watch(query)


def engine_session(
    *,
    url: str | None,
    token: str | None,
    profile_name: str | None,
    max_functions: int | None,
    store: str | None,
    store_options: Sequence[str] | None,
    memory_limit: str | None,
    idle_s: float,
) -> Session:
    """Return a session with the coordinator at `url` or of the profile, or with one in this process."""
    settings = settings_from_env()
    place = _config.place_of(*_named(url, token, profile_name), use_default=False)
    try:
        if place is not None:
            return RemoteSession(place.url, token=place.token, settings=None if settings == Settings() else settings)
        options = local_options(
            max_functions=max_functions,
            store=store,
            storage_options=pairs(store_options, "--store-option"),
            memory_limit=memory_limit,
            idle_s=idle_s,
        )
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error
    return LocalSession(options, settings)


def remote_session(
    url: str | None, token: str | None, profile_name: str | None, *, settings: Settings | None = None
) -> RemoteSession:
    """Return a session with the coordinator that is named, of the default profile, or of this machine."""
    place = _config.place_of(*_named(url, token, profile_name), use_default=True)
    place = place or _config.Place(url=_DEFAULT_ADDRESS, token=token)
    try:
        own = None if settings == Settings() else settings
        return RemoteSession(place.url, token=place.token, settings=own, timeout_s=_ANSWER_S)
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


def _named(url: str | None, token: str | None, profile_name: str | None) -> tuple[str | None, str | None, str | None]:
    """Return what counts: an option of the command line above a variable of the other kind.

    A token of the variable goes to the address of the option or the variable, and to that of no profile.
    """
    if url is not None and profile_name is not None:
        if profile_name == os.environ.get("FRAZIL_PROFILE") and url != os.environ.get("FRAZIL_URL"):
            profile_name = None
        elif url == os.environ.get("FRAZIL_URL") and profile_name != os.environ.get("FRAZIL_PROFILE"):
            url = None
    return url, None if url is None and token == os.environ.get("FRAZIL_TOKEN") else token, profile_name


def settings_from_env() -> Settings:
    """Return the settings of the ``FRAZIL_*`` variables; a bad one is bad usage."""
    try:
        return Settings.from_env()
    except RequestError as error:
        raise typer.BadParameter(str(error)) from error


def print_json(value: object) -> None:
    """Write a value to standard output as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return ``KEY=VALUE`` texts as a dict."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise typer.BadParameter(f"{option} takes NAME=VALUE, not {text!r}")
        found[name] = value
    return found


def sql_query(text: str, tables: Mapping[str, str], storage_options: Mapping[str, str]) -> pl.LazyFrame:
    """Return the LazyFrame of a SQL query over Parquet tables."""
    options = dict(storage_options) or None
    frames = {name: pl.scan_parquet(path, storage_options=options) for name, path in tables.items()}
    with pl.SQLContext(frames, eager=False) as context:
        return context.execute(text)


def note(text: str) -> None:
    """Say something to the person at the terminal."""
    STDERR.print(text, markup=False, soft_wrap=True)


def innermost(error: BaseException) -> BaseException:
    """Return what a task group of one failure wraps."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def complain(error: BaseException, *, place: str = "") -> None:
    """Say in one message what went wrong."""
    own = isinstance(error, (FrazilError, OSError, ScriptError))
    text = str(error) if own else f"{type(error).__name__}: {error}"
    note(f"frazil: {place}{text}{notes_of(error)}")


def notes_of(error: BaseException) -> str:
    """Return the notes of an error, each on a line of its own."""
    return "".join(f"\n  {one.removeprefix('frazil: ')}" for one in getattr(error, "__notes__", ()))


@contextmanager
def terminated_as_exit() -> Iterator[None]:
    """Turn SIGTERM into an orderly exit, so that functions and temporary folders go."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        sys.exit(_EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_engine(session: Session, watched: Watched, priority: int = 0, reusing: Reusing = AS_SETTINGS) -> Engine:
    """Return an engine whose queries are watched, have a priority, and reuse what they may."""
    return Engine(session, watch=watched.watch, priority=priority, reusing=reusing)


def reusing(reuse: ReuseKind | None, max_age_s: float | None) -> Reusing:
    """Return what the options say of reuse."""
    return Reusing(reuse=None if reuse is None else reuse.value, max_age_s=max_age_s)
