"""Runs one task: binds its inputs, streams the fragment through Polars, and writes the next exchange, or the user's files.

A plain function of its request and the object store, called in a worker thread by :mod:`frazil_functions.app`; it knows no
HTTP. Everything that it reads is named by the request, and its output goes to a key that no other execution uses, so that
running it twice, or stopping it anywhere, harms nothing. Next on the main path: :mod:`frazil_functions.exchange`, and for a
query that ends in a sink :mod:`frazil_functions.sink`.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, NoReturn

import msgspec
import polars as pl

from frazil_functions.errors import (
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    InternalError,
    PlanError,
)
from frazil_functions.exchange.combine import combine_blocks
from frazil_functions.exchange.dtypes import lacks
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter, WrittenOutput
from frazil_functions.failures import may_be_the_engines_fault, task_error
from frazil_functions.fragment import BoundFragment, bind
from frazil_functions.memory import MemoryWatch, resident_bytes, return_freed_memory
from frazil_functions.sealed import fragment_of
from frazil_functions.sink import node_of, sink_options, write_sink
from frazil_functions.sources import changed_source, secret_values
from frazil_functions.storage import CountingStore, Store
from frazil_functions.storage_hedged import Hedging
from frazil_functions.stream import batches, feed, feed_whole, whole
from frazil_functions.task import (
    Descriptor,
    ExchangeInput,
    Heartbeat,
    ScanInput,
    SinkFile,
    SinkOutput,
    TaskRequest,
    TaskStats,
)

__all__ = ["CancelToken", "TaskRun", "run_task"]

logger = logging.getLogger(__name__)

_OTHER_ENGINE: Final = "polars' streaming engine failed where its in-memory engine may not: the task is run by that one"
_CANCELLED: Final = "the task was cancelled"


class CancelToken:
    """Tells a running task to stop; set from any thread, looked at between batches.

    Parameters
    ----------
    deadline_unix_s
        Time after which the task stops by itself.
    on_cancel
        Called once, with the reason, in the thread that cancels.
    """

    def __init__(
        self, deadline_unix_s: float | None = None, on_cancel: Callable[[FrazilError], object] | None = None
    ) -> None:
        self._deadline_unix_s = deadline_unix_s
        self._on_cancel = on_cancel
        self._reason: FrazilError | None = None

    @property
    def reason(self) -> FrazilError | None:
        """The error that the task should end with, or None while it should go on."""
        if self._reason is None and self._deadline_unix_s is not None and time.time() >= self._deadline_unix_s:
            self.cancel(DeadlineError("the query's time was up while the task ran"))
        return self._reason

    def cancel(self, reason: FrazilError | None = None) -> None:
        """Stop the task; the first reason counts."""
        if self._reason is None:
            self._reason = reason or CancelledQueryError(_CANCELLED)
            if self._on_cancel is not None:
                self._on_cancel(self._reason)

    def is_set(self) -> bool:
        """Return whether the task should stop."""
        return self.reason is not None

    def raise_if_set(self) -> None:
        """Raise the reason when the task should stop."""
        if (reason := self.reason) is not None:
            raise reason


class TaskRun:
    """One execution of one attempt: runs it, and counts what it uses.

    Parameters
    ----------
    request
        The attempt.
    store
        The exchange store.
    cancelled
        Stops it.
    memory_limit_bytes
        The process's own limit of resident memory; the request may lower it.
    cold_start
        Whether it is the first task of the process.
    allow_udfs
        Whether the fragment may hold Python objects of the user's.
    hedging
        When requests to the exchange store are made twice; None: never.
    """

    def __init__(
        self,
        request: TaskRequest,
        *,
        store: Store,
        cancelled: CancelToken,
        memory_limit_bytes: int | None = None,
        cold_start: bool = False,
        allow_udfs: bool = False,
        hedging: Hedging | None = None,
    ) -> None:
        self._request = request
        self._counted = CountingStore(store)
        self._hedged = None if hedging is None else hedging.over(self._counted)
        self._store: Store = self._hedged or self._counted
        self.cancelled = cancelled
        """Stops the run."""
        limits = [limit for limit in (memory_limit_bytes, request.limits.memory_bytes) if limit is not None]
        self._memory = MemoryWatch(min(limits, default=None), cancelled.cancel)
        self._cold_start = cold_start
        self._allow_udfs = allow_udfs
        self._started_s = time.perf_counter()
        self._rows_in = 0
        self._bytes_in = 0
        self._rows_out = 0
        self._raw_bytes_out = 0
        self._bytes_out = 0
        self._streaming = True

    def run(self) -> Descriptor:
        """Run the attempt to its end.

        Returns
        -------
        Descriptor
            Where the output is.

        Raises
        ------
        FrazilError
            Whatever stopped it. Nothing is published then.
        """
        where = {"stage": str(self._request.stage), "task": str(self._request.task)}
        return_freed_memory()  # of the task before
        with self._memory:
            try:
                written = self._run_fragment(where)
            except BaseException as error:  # a polars panic is no Exception
                _raise(task_error(error, where=where, in_polars=False), error)
        return msgspec.structs.replace(written, stats=self.stats())

    def stats(self) -> TaskStats:
        """Return what the attempt has used so far."""
        return TaskStats(
            rows_in=self._rows_in,
            rows_out=self._rows_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            requests=self._requests(),
            seconds=time.perf_counter() - self._started_s,
            peak_memory_bytes=self._memory.peak_bytes,
            cold_start=self._cold_start,
        )

    def _requests(self) -> dict[str, int]:
        hedges = 0 if self._hedged is None else self._hedged.hedges
        return {**self._counted.requests, **({"hedge": hedges} if hedges else {})}

    def heartbeat(self) -> Heartbeat:
        """Return how far the attempt is."""
        return Heartbeat(rows=self._rows_out, bytes=self._raw_bytes_out, memory_bytes=resident_bytes())

    def _run_fragment(self, where: dict[str, str]) -> Descriptor:
        self.cancelled.raise_if_set()
        if self._request.output.kind == "combined":
            return self._combine().descriptor(TaskStats())
        with bind(self._fragment(), self._request.inputs, self._read, allow_udfs=self._allow_udfs) as bound:
            options = [options for _, options in bound.scan_options]
            if (sink := self._request.sink) is not None:
                options.append(sink_options(node_of(sink)).get("cloud_options"))
            secrets = {value for one in options for value in secret_values(one)}
            fail = partial(task_error, where=where, files=[split.path for split in bound.splits], secrets=secrets)
            try:
                bound.fill_ranges()
                return self._output(bound, fail)
            except BaseException as error:
                cause = self._cause(bound, error, fail)
                if not may_be_the_engines_fault(cause):
                    _raise(cause, error)
                logger.warning(_OTHER_ENGINE, extra={**where, "reason": str(cause).partition("\n")[0]})
            self._begin_again()
            try:
                return self._output(bound, fail)
            except BaseException as error:
                _raise(self._cause(bound, error, fail), error)

    def _output(self, bound: BoundFragment, fail: Callable[[BaseException], FrazilError]) -> Descriptor:
        """Run the bound fragment with the engine whose turn it is, and write its rows."""
        if self._request.sink is None:
            return self._write(bound, fail).descriptor(TaskStats())
        return Descriptor(key=None, blocks=(), files=self._write_files(self._request.sink, bound, fail))

    def _begin_again(self) -> None:
        """Forget what the streaming engine read and made: the in-memory engine, Polars' default, has the last word."""
        self._streaming = False
        self._rows_in = self._bytes_in = self._rows_out = self._raw_bytes_out = 0

    def _fragment(self) -> bytes:
        fragment = fragment_of(self._request, self._store)
        if not fragment:
            raise PlanError("the task has no fragment")
        return fragment

    def _read(
        self,
        exchange: ExchangeInput,
        *,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
    ) -> Iterator[pl.DataFrame]:
        return read_exchange(
            self._store,
            exchange,
            with_columns=with_columns,
            predicate=predicate,
            n_rows=n_rows,
            on_read=self._count_block,
            cancelled=self.cancelled.is_set,
        )

    def _count_block(self, rows: int, size: int) -> None:
        self._rows_in += rows
        self._bytes_in += size

    def _key(self) -> str:
        """Return a key that no other execution writes to."""
        return f"{self._request.output.prefix}/{self._request.attempt}-{uuid.uuid4().hex}"

    def _combine(self) -> WrittenOutput:
        """Copy the blocks of the only input into one object."""
        (given,) = self._request.inputs
        if not isinstance(given, ExchangeInput):
            raise PlanError("only blocks of an exchange can be combined")
        written = combine_blocks(
            self._store,
            given.blocks,
            key=self._key(),
            map_index=self._request.task,
            cancelled=self.cancelled.is_set,
        )
        self._unless_cancelled(written)
        self._rows_in = self._rows_out = written.rows
        self._bytes_in = sum(block.length for block in given.blocks)
        self._bytes_out = written.bytes
        return written

    def _unless_cancelled(self, written: WrittenOutput) -> None:
        """Take back what was cancelled while it was written: nobody will ask for it."""
        if self.cancelled.is_set() and written.key is not None:
            self._store.delete([written.key])
            self.cancelled.raise_if_set()

    def _write(self, bound: BoundFragment, fail: Callable[[BaseException], FrazilError]) -> WrittenOutput:
        """Stream the fragment's rows into the exchange; publish them when the sources are still the planned ones."""
        key = self._key()
        writer = ExchangeWriter(self._request.output, store=self._store, key=key, map_index=self._request.task)
        try:
            self._feed(bound, fail, writer)
            self._rows_in += sum(split.rows for split in bound.splits) + bound.range_lines
            _check_sources(bound)
            self.cancelled.raise_if_set()
            written = writer.finish()
        except BaseException:
            writer.abort()
            raise
        self._unless_cancelled(written)
        self._bytes_out = written.bytes
        return written

    def _feed(self, bound: BoundFragment, fail: Callable[[BaseException], FrazilError], writer: ExchangeWriter) -> None:
        """Write the fragment's rows while the task shall go on."""
        schema = pl.Schema()

        def take(frame: pl.DataFrame) -> None:
            nonlocal schema
            frame = _with_inner_dtypes(frame, schema)
            if self._request.output.final and not self._rows_out and frame.columns == schema.names():
                schema = frame.schema  # polars may be wrong about types, and then its user gets what there is
            _check_schema(frame, schema)
            if frame.height:
                self._count(frame)
                writer.write(frame)

        # What polars raises is turned into our errors here, where it is certain that it was polars.
        try:
            schema = bound.lf.collect_schema()
            run = feed if self._streaming else feed_whole
            failed = run(bound.lf, take, bound.optimizations)
        except BaseException as error:
            raise fail(error) from error
        if failed is not None:
            raise failed

    def _write_files(
        self, sink: SinkOutput, bound: BoundFragment, fail: Callable[[BaseException], FrazilError]
    ) -> tuple[SinkFile, ...]:
        """Stream the fragment's rows into files that nobody looks at before the coordinator publishes them."""
        request = self._request
        execution = f"{request.stage}-{request.task}-{request.attempt}-{uuid.uuid4().hex}"
        try:
            files = write_sink(self._rows(bound, fail), bound.lf.collect_schema(), sink, execution)
        except FrazilError:
            raise
        except BaseException as error:
            raise fail(error) from error
        self._rows_in += sum(split.rows for split in bound.splits) + bound.range_lines
        _check_sources(bound)
        self.cancelled.raise_if_set()
        self._bytes_out = sum(file.bytes for file in files)
        return files

    def _rows(self, bound: BoundFragment, fail: Callable[[BaseException], FrazilError]) -> Iterator[pl.DataFrame]:
        """Yield the fragment's rows while the task shall go on."""
        for frame in _batches(bound, fail, batches if self._streaming else whole):
            self._count(frame)
            yield frame

    def _count(self, frame: pl.DataFrame) -> None:
        self.cancelled.raise_if_set()
        self._rows_out += frame.height
        self._raw_bytes_out += int(frame.estimated_size())

    def _cause(
        self, bound: BoundFragment, error: BaseException, fail: Callable[[BaseException], FrazilError]
    ) -> BaseException:
        """Return why the fragment failed: what was raised may be but what Polars made of it."""
        if (reason := self.cancelled.reason) is not None:
            return fail(reason)
        if (inner := bound.reader_error()) is not None:
            return fail(inner)
        if not isinstance(error, FrazilError):
            return error
        if not any(isinstance(given, ScanInput) for given in self._request.inputs):
            return error
        return next((fail(changed) for changed in _changes(bound)), error)


def run_task(
    request: TaskRequest, *, store: Store, cancelled: CancelToken | None = None, allow_udfs: bool = False
) -> Descriptor:
    """Run one attempt to its end; see :meth:`TaskRun.run`."""
    token = cancelled or CancelToken(request.deadline_unix_s)
    return TaskRun(request, store=store, cancelled=token, allow_udfs=allow_udfs).run()


def _raise(told: BaseException, error: BaseException) -> NoReturn:
    """Raise what `error` means; when that is `error` itself, its own cause stays, which a debugger looks for."""
    raise told from (error.__cause__ if told is error else error)


def _batches(
    bound: BoundFragment,
    fail: Callable[[BaseException], FrazilError],
    run: Callable[[pl.LazyFrame, pl.QueryOptFlags], Iterator[pl.DataFrame]],
) -> Iterator[pl.DataFrame]:
    """Stream the fragment's rows, none of the frames empty.

    What polars raises is turned into our errors here, where it is certain that it was polars.
    """
    try:
        schema = bound.lf.collect_schema()
        frames = run(bound.lf, bound.optimizations)
    except BaseException as error:
        raise fail(error) from error
    while True:
        try:
            frame = next(frames)
        except StopIteration:
            return
        except BaseException as error:
            raise fail(error) from error
        frame = _with_inner_dtypes(frame, schema)
        _check_schema(frame, schema)
        if frame.height:
            yield frame


def _with_inner_dtypes(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Return the frame with what `schema` says the nulls inside of nested columns are of.

    Polars may lose it: ``reverse()`` makes a ``List(Null)`` of a list column that has only nulls (polars 2.1).
    """
    if frame.schema == schema or frame.columns != schema.names():
        return frame
    found = {name: dtype for name, dtype in frame.schema.items() if dtype.is_nested() and dtype != schema[name]}
    lost = {name: schema[name] for name, dtype in found.items() if lacks(dtype, schema[name])}
    return frame.cast(pl.Schema(lost)) if lost else frame


def _check_schema(frame: pl.DataFrame, schema: pl.Schema) -> None:
    if frame.schema != schema:
        raise InternalError(f"polars yielded {frame.schema} where the fragment's schema is {schema}")


def _changes(bound: BoundFragment) -> Iterator[FrazilError]:
    for splits, options in bound.scan_options:
        if (changed := changed_source(splits, options)) is not None:
            yield changed


def _check_sources(bound: BoundFragment) -> None:
    for changed in _changes(bound):
        raise changed
