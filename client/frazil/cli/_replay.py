"""``frazil replay``: one task of a query, run again in this process, under a debugger or a profiler if that is wanted."""

from __future__ import annotations

import os
import pdb
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Final

import polars as pl
import typer

from frazil._parts import functions_extra
from frazil.cli import _common
from frazil.cli._sampling import check_profile, sampled
from frazil_functions.errors import FrazilError, QueryError, exception_name, user_exception
from frazil_functions.ids import QueryId
from frazil_functions.task import ExchangeInput, TaskInput

if TYPE_CHECKING:
    from frazil._replay import Replay, ReplayRun

__all__ = ["replay"]

_TASK: Final = re.compile(r"([^/\s]+)/(\d{1,9})/(\d{1,9})(?:/(\d{1,9}))?")
_NUMBERS: Final = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of running a task."""

    run: ReplayRun | None = None
    error: BaseException | None = None
    same: bool | None = None
    """Whether it failed as its query did; None when that is not known to have failed here."""


def replay(
    task: Annotated[
        str | None, typer.Argument(metavar="QUERY/STAGE/TASK", help="The task; with /ATTEMPT behind it, as logs name it.")
    ] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", min=0, help="Which attempt; by default the last one.")] = None,
    saved: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", exists=True, dir_okay=False, help="A file of --save, in place of a task."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FOLDER", file_okay=False, help="Keep the task in a file here, too.")
    ] = None,
    no_run: Annotated[bool, typer.Option("--no-run", help="Only show what the task is, and its plan.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FOLDER", file_okay=False, help="Keep here what the task writes, a Parquet file a partition."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--pdb", help="When it fails, open the debugger where it did.")] = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="Sample it by py-spy: .svg, .json (speedscope) or .txt.")
    ] = None,
    allow_udfs: Annotated[
        bool, typer.Option("--allow-udfs", help="Let Python functions of the query run here, with your rights.")
    ] = False,
    store: Annotated[
        str | None, typer.Option("--store", help="The exchange store, for inputs that are too large to be sent along.")
    ] = None,
    store_option: _common.StoreOptions = None,
    url: _common.Url = None,
    token: _common.Token = None,
    profile_name: _common.ProfileName = None,
    as_json: _common.AsJson = False,
) -> None:
    """Run a task of a query again in this process, with its own inputs; nothing is written where the query was.

    Of a running query any task can be fetched, of an ended one the task that it failed with, or all of a query that ran
    with keep_inputs=all. Exits with 1 when the task fails.
    """
    with functions_extra():
        from frazil._replay import Replay
    program = None if profile is None else check_profile(profile)
    data, source = _bundle(task, attempt, saved, url, token, profile_name)
    options = _common.pairs(store_option, "--store-option")
    with Replay.of(data, source=source, store=store, storage_options=options, allow_udfs=allow_udfs) as found:
        file = None if save is None else found.save(save)
        outcome, sampling = None, None
        if not no_run:
            with nullcontext() if profile is None or program is None else sampled(profile, program) as sampling:
                outcome = _run(found, output)
        told = _told(found, outcome, file, None if sampling is None else sampling.note or str(sampling.path))
        if as_json:
            _common.print_json(told)
        else:
            _show(found, told, outcome)
    if outcome is not None and outcome.error is not None:
        if debug:
            pdb.post_mortem(_innermost(outcome.error).__traceback__)
        sys.exit(_common.EXIT_FAILED)


def _bundle(
    task: str | None, attempt: int | None, saved: Path | None, url: str | None, token: str | None, profile_name: str | None
) -> tuple[bytes, str]:
    """Return the bundle that the arguments name, and what it came from."""
    if (task is None) == (saved is None):
        raise typer.BadParameter("name a task as QUERY/STAGE/TASK, or a file with --from")
    if saved is not None:
        return saved.read_bytes(), str(saved)
    match = _TASK.fullmatch(task or "")
    if match is None:
        raise typer.BadParameter(f"a task is named QUERY/STAGE/TASK, e.g. 31321abe43e9acdb/4/1, not {task!r}")
    query, stage, number, own = match.groups()
    if own is not None and attempt is not None and int(own) != attempt:
        raise typer.BadParameter(f"{task} names attempt {own}, and --attempt {attempt}")
    wanted = attempt if own is None else int(own)
    with closing(_common.remote_session(url, token, profile_name)) as session:
        return session.replay(QueryId(query), int(stage), int(number), wanted), "the answer of the coordinator"


def _run(found: Replay, output: Path | None) -> _Outcome:
    """Run a task; what it raises is part of the outcome, what can't be run at all is not."""
    try:
        found.check()
        return _Outcome(run=found.run(output))
    except (Exception, pl.exceptions.PanicException) as error:
        if not _is_of_the_run(error):
            raise
        return _Outcome(error=error, same=_is_same(found.error, error))


def _is_of_the_run(error: BaseException) -> bool:
    """Return whether the task raised it: such errors name the task."""
    told = error if isinstance(error, FrazilError) else error.__cause__
    return isinstance(told, FrazilError) and "task" in told.where


def _is_same(expected: FrazilError | None, error: BaseException) -> bool | None:
    """Return whether two errors have one class and text; not one count: Polars cuts rows by the number of its threads."""
    if expected is None:
        return None
    told, wanted = _text_of(error), _text_of(user_exception(expected))
    return _class_of(error) == _class_of(user_exception(expected)) and wanted.startswith(told)


def _text_of(error: BaseException) -> str:
    text = error.message if isinstance(error, FrazilError) else str(error)
    return _NUMBERS.sub("#", text)


def _class_of(error: BaseException) -> str:
    if isinstance(error, QueryError):
        return error.exception
    return error.kind if isinstance(error, FrazilError) else exception_name(error)


def _told(found: Replay, outcome: _Outcome | None, file: Path | None, profile: str | None) -> dict[str, object]:
    """Return what is said of a task, and of its run, as JSON values."""
    request = found.request
    told: dict[str, object] = {
        "id": found.bundle.id,
        "polars": request.polars_version,
        "frazil": found.bundle.frazil_version,
        "fragment_bytes": len(request.fragment),
        "inputs": [_input(given) for given in request.inputs],
        "output": "sink" if request.sink is not None else request.output.kind,
        "left_out_bytes": found.bundle.left_out_bytes,
        "left_out": found.bundle.left_out,
        "query_error": None if found.error is None else _error(user_exception(found.error)),
        "saved": None if file is None else str(file),
        "profile": profile,
        "state": "not run",
    }
    if outcome is None:
        return told
    if outcome.run is None:
        error = None if outcome.error is None else _error(outcome.error)
        return {**told, "state": "failed", "error": error, "same_error": outcome.same}
    stats = outcome.run.stats
    return {
        **told,
        "state": "succeeded",
        "rows_in": stats.rows_in,
        "rows_out": stats.rows_out,
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "seconds": stats.seconds,
        "peak_memory_bytes": stats.peak_memory_bytes,
        "partitions": {number: frame.height for number, frame in sorted(outcome.run.frames.items())},
        "files": [{"path": one.path, "rows": one.rows, "bytes": one.bytes} for one in outcome.run.files],
    }


def _error(error: BaseException) -> dict[str, object]:
    return {"class": _class_of(error), "message": error.message if isinstance(error, FrazilError) else str(error)}


def _input(given: TaskInput) -> dict[str, object]:
    if isinstance(given, ExchangeInput):
        rows, size = sum(one.rows for one in given.blocks), sum(one.length for one in given.blocks)
        return {"type": "exchange", "blocks": len(given.blocks), "rows": rows, "bytes": size}
    files = list(dict.fromkeys(split.path for split in given.splits))
    return {"type": "scan", "splits": len(given.splits), "rows": sum(one.rows for one in given.splits), "files": files}


def _show(found: Replay, told: dict[str, object], outcome: _Outcome | None) -> None:
    """Write what is said of a task for a person: facts to standard output, errors to standard error."""
    for name, text in _lines(found, told, outcome):
        typer.echo(f"{name:<10} {text}")
    if outcome is None:
        typer.echo(found.plan())
    elif outcome.error is not None:
        error = _innermost(outcome.error)
        _common.note("".join(traceback.format_exception(error, chain=bool(os.environ.get("FRAZIL_DEBUG")))).rstrip())


def _lines(found: Replay, told: dict[str, object], outcome: _Outcome | None) -> Iterator[tuple[str, str]]:
    request = found.request
    yield "task", f"{told['id']}, of frazil {told['frazil']} and polars {told['polars']}"
    if found.error is not None:
        yield "query", f"failed with it: {_first_line(user_exception(found.error))}"
    for number, given in enumerate(request.inputs):
        yield f"input {number}", _input_text(given)
    if size := found.missing_bytes:
        yield "missing", f"{size:,} bytes of blocks; {found.bundle.left_out}"
    yield "output", f"{told['output']}" + (f", {request.output.partitions} partitions" if request.sink is None else "")
    if told["saved"]:
        yield "saved", f"{told['saved']} (it may hold credentials)"
    if outcome is not None and outcome.run is not None:
        stats = outcome.run.stats
        yield "ran", f"{stats.seconds:.3f} s, {stats.peak_memory_bytes / 1e6:,.0f} MB of memory at the peak of this process"
        yield "rows", f"{stats.rows_in:,} in, {stats.rows_out:,} out"
        yield "bytes", f"{stats.bytes_in:,} in, {stats.bytes_out:,} out"
        for partition, frame in sorted(outcome.run.frames.items()):
            yield f"  part {partition}", f"{frame.height:,} rows"
        for one in outcome.run.files:
            yield "file", f"{one.path}: {one.rows:,} rows, {one.bytes:,} bytes"
    elif outcome is not None and outcome.error is not None:
        how = {True: "as at the coordinator", False: "otherwise than at the coordinator", None: ""}[outcome.same]
        yield "failed", f"{how}: {_first_line(outcome.error)}" if how else _first_line(outcome.error)
    if told["profile"]:
        yield "profile", str(told["profile"])


def _input_text(given: TaskInput) -> str:
    told = _input(given)
    if isinstance(given, ExchangeInput):
        return f"exchange, {told['blocks']:,} blocks, {told['rows']:,} rows, {told['bytes']:,} bytes"
    files = [split.path for split in given.splits]
    more = f" and {len(set(files)) - 1} more" if len(set(files)) > 1 else ""
    return f"scan, {told['splits']:,} splits, {told['rows']:,} rows of {files[0] if files else 'no file'}{more}"


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, FrazilError) else str(error)
    return f"{_class_of(error)}: {text.partition(chr(10))[0]}"


def _innermost(error: BaseException) -> BaseException:
    """Return the first error of a chain, which was raised where something went wrong."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        current = current.__cause__ or current.__context__
    found: TracebackType | None = None
    for one in reversed(seen):
        found = one.__traceback__
        if found is not None:
            return one
    return error
