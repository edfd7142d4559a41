"""One task of a query, run again in this process: with its own fragment and inputs, and nothing written where the query was.

A :class:`Replay` is made by :meth:`frazil.Query.replay`, or from a file that one was saved in. It runs what a function would
run (:mod:`frazil_functions.run`) and keeps the output in a temporary folder; ``frazil replay`` (:mod:`frazil.cli._replay`)
is its command. What a bundle holds is said in docs/replay.md.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self, cast

import msgspec
import polars as pl

from frazil_functions import PROTOCOL_VERSION
from frazil_functions.arena import Arena
from frazil_functions.bundle import Bundle, decode_bundle, encode_bundle, missing_bytes
from frazil_functions.errors import FrazilError, PlanVersionError, PythonPlanError, RequestError, from_wire, user_exception
from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.fragment import bind
from frazil_functions.run import CancelToken, TaskRun
from frazil_functions.sink import node_of, sink_options
from frazil_functions.storage import FolderStore, PassingStore, Store, open_store
from frazil_functions.task import (
    Descriptor,
    ExchangeInput,
    SinkFile,
    SinkOutput,
    TaskLimits,
    TaskRequest,
    TaskStats,
)

__all__ = ["SUFFIX", "Replay", "ReplayRun"]

SUFFIX: Final = ".frztask"
"""Of a file with a bundle."""

_OUTPUT: Final = "output"
"""Key prefix of what a run writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRun:
    """What a task did when it was run again."""

    stats: TaskStats
    """Rows, bytes, requests, seconds and the peak of resident memory, as a function would report them."""

    frames: Mapping[int, pl.DataFrame] = field(repr=False)
    """The rows that it wrote, by partition of its output; a partition without rows is not here."""

    files: tuple[SinkFile, ...] = ()
    """Files of the user's that it wrote, in place of rows for other tasks; they are gone unless a folder was given."""

    def frame(self, partition: int | None = None) -> pl.DataFrame:
        """Return the rows of one partition, or all of them in the order of the partitions.

        Raises
        ------
        RequestError
            When it wrote nothing for `partition`.
        """
        if partition is None:
            return pl.concat([self.frames[number] for number in sorted(self.frames)]) if self.frames else pl.DataFrame()
        if partition not in self.frames:
            known = ", ".join(map(str, sorted(self.frames))) or "none"
            raise RequestError(f"the task wrote no rows for partition {partition}; partitions with rows: {known}")
        return self.frames[partition]


class Replay:
    """A task that can be run again.

    Use it as a context manager, or let go of it: :attr:`fragment` and :attr:`inputs` can be run only while it lives.

    Parameters
    ----------
    bundle
        The task.
    store
        The exchange store that the query used, for blocks that are not in the bundle; it is only read. None: there is none.
    allow_udfs
        Whether Python functions in the fragment may be unpickled and called. It is code of whoever submitted the query, and
        runs with the rights of this process.
    """

    def __init__(self, bundle: Bundle, *, store: Store | None = None, allow_udfs: bool = False) -> None:
        self.bundle = bundle
        self.allow_udfs = allow_udfs
        self._store = store
        self._bound = ExitStack()
        self._fragment: pl.LazyFrame | None = None
        self._inputs: tuple[pl.LazyFrame, ...] | None = None
        self._end = weakref.finalize(self, self._bound.close)

    @classmethod
    def of(
        cls,
        data: bytes,
        *,
        source: str = "the answer of the coordinator",
        store: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        allow_udfs: bool = False,
    ) -> Self:
        """Return what is in a bundle.

        Parameters
        ----------
        data, source
            The bundle, and what it came from.
        store, storage_options
            Folder or URL of the exchange store, for blocks that are not in it; None: there is none.
        allow_udfs
            See :class:`Replay`.

        Raises
        ------
        RequestError
            When it is no bundle, or a damaged one.
        """
        opened = None if store is None else open_store(store, storage_options)
        return cls(decode_bundle(data, source=source), store=opened, allow_udfs=allow_udfs)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        store: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        allow_udfs: bool = False,
    ) -> Self:
        """Return what :meth:`save` wrote. Parameters and errors are those of :meth:`of`."""
        data = Path(path).read_bytes()
        return cls.of(data, source=str(path), store=store, storage_options=storage_options, allow_udfs=allow_udfs)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to a file that only its owner may read, and return its path: it may hold credentials."""
        path = Path(folder) / f"{self.bundle.id.replace('/', '-')}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(encode_bundle(self.bundle))
        return path

    @property
    def request(self) -> TaskRequest:
        """What the attempt was sent."""
        return self.bundle.request

    @property
    def error(self) -> FrazilError | None:
        """What the query failed with, when this task is why."""
        return None if self.bundle.error is None else from_wire(self.bundle.error)

    @property
    def missing_bytes(self) -> int:
        """Bytes of blocks that the task reads and that are not in the bundle."""
        return missing_bytes(self.request)

    @property
    def fragment(self) -> pl.LazyFrame:
        """What the task computes, as a LazyFrame whose inputs are in place: to be shown, profiled or run in parts.

        Raises
        ------
        RequestError
            When the task only copies blocks, or what it reads is not here.
        FrazilError
            As :meth:`run`.
        """
        if self._fragment is None:
            self.check()
            if not self.request.fragment:
                raise RequestError("this task has no fragment: it copies blocks into fewer objects, as they are")
            self._fragment = self._bind(self.request.fragment)
        return self._fragment

    @property
    def inputs(self) -> tuple[pl.LazyFrame, ...]:
        """What the task reads, input by input: what other tasks wrote, or its share of a table. Raises as `fragment`."""
        if self._inputs is None:
            self.check()
            plan = Arena.decode(self.request.fragment) if self.request.fragment else Arena()
            places = plan.placeholders() if self.request.fragment else {}
            self._inputs = tuple(
                self._bind(plan.lazy(places[number][0]).serialize()) if number in places else self._unnamed(number)
                for number in range(len(self.request.inputs))
            )
        return self._inputs

    def plan(self) -> str:
        """Return the fragment as Polars prints it, with placeholders for its inputs; nothing is read. Raises as `run`."""
        self.check(reads=False)
        if not self.request.fragment:
            return "COPY of blocks into one object, as they are"
        return Arena.decode(self.request.fragment).lazy().explain(optimized=False)

    def run(self, folder: str | Path | None = None) -> ReplayRun:
        """Run the task, and return what it did.

        Neither the query's deadline nor the memory limit of a function holds here. Nothing is written to the exchange store
        or to where the query's sink writes.

        Parameters
        ----------
        folder
            Where what it writes stays: a Parquet file a partition, or below ``files`` those of the query's sink. None:
            nowhere.

        Raises
        ------
        PolarsError
            What Polars raised, or a Python function in the fragment: the same class as in the function, with it as cause.
        PlanVersionError
            When another version of polars made the fragment.
        PythonPlanError
            When the fragment holds Python functions, and ``allow_udfs`` is not given.
        RequestError
            When blocks that the task reads are not in the bundle, and there is no store.
        FrazilError
            When the task failed otherwise.
        """
        self.check()
        with ExitStack() as stack:
            place = Path(stack.enter_context(_temporary()))
            own = _Output(FolderStore(place), self._store)
            run = TaskRun(
                self._here(place if folder is None else Path(folder)),
                store=own,
                cancelled=CancelToken(),
                allow_udfs=self.allow_udfs,
            )
            try:
                written = run.run()
            except FrazilError as error:
                if (raised := user_exception(error)) is error:
                    raise
                raise raised from error
            frames = _frames(written, own)
        if folder is not None:
            for partition, frame in frames.items():
                frame.write_parquet(Path(folder) / f"partition-{partition}.parquet", mkdir=True)
        return ReplayRun(stats=written.stats, frames=frames, files=written.files)

    def close(self) -> None:
        """Let go of what :attr:`fragment` and :attr:`inputs` read; a second call has no effect."""
        self._end()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        failed = "" if self.bundle.error is None else f", failed: {self.bundle.error.kind}"
        return f"Replay({self.bundle.id}{failed})"

    def _here(self, place: Path) -> TaskRequest:
        """Return the request with bounds and places of this process."""
        request = self.request
        output = msgspec.structs.replace(request.output, prefix=_OUTPUT)
        limits = TaskLimits(heartbeat_s=request.limits.heartbeat_s)
        sink = None if request.sink is None else _sink_here(request.sink, place)
        return msgspec.structs.replace(request, output=output, limits=limits, sink=sink, deadline_unix_s=None)

    def check(self, *, reads: bool = True) -> None:
        """Refuse what can't be run here, before anything is: no word of a task's own failure.

        Parameters
        ----------
        reads
            Whether what it reads must be here, too.

        Raises
        ------
        PlanVersionError, PythonPlanError, RequestError
            As :meth:`run`.
        """
        request = self.request
        if request.polars_version != pl.__version__ or request.protocol_version != PROTOCOL_VERSION:
            raise PlanVersionError(
                f"the task was made for polars {request.polars_version} and task protocol {request.protocol_version}, and "
                f"here are polars {pl.__version__} and protocol {PROTOCOL_VERSION}: "
                f"pip install frazil=={self.bundle.frazil_version} polars=={request.polars_version}"
            )
        if request.fragment and not self.allow_udfs:
            try:
                Arena.decode(request.fragment).refuse_python("")
            except PythonPlanError as error:
                raise PythonPlanError(
                    "the fragment holds Python functions, which run with your rights: if you trust who submitted the query, "
                    "allow them with allow_udfs=True (--allow-udfs)"
                ) from error
        if reads and self._store is None and (size := self.missing_bytes):
            why = f": {self.bundle.left_out}" if self.bundle.left_out else ""
            raise RequestError(f"{size:,} bytes of blocks that the task reads are not in the bundle{why}")

    def _bind(self, plan: bytes) -> pl.LazyFrame:
        bound = self._bound.enter_context(bind(plan, self.request.inputs, self._read, allow_udfs=self.allow_udfs))
        bound.fill_ranges()
        return bound.lf

    def _read(
        self,
        exchange: ExchangeInput,
        *,
        with_columns: list[str] | None = None,
        predicate: pl.Expr | None = None,
        n_rows: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        store = cast("Store", self._store)  # without one all blocks are in the bundle, and it is not asked
        return read_exchange(store, exchange, with_columns=with_columns, predicate=predicate, n_rows=n_rows)

    def _unnamed(self, number: int) -> pl.LazyFrame:
        """Return an input that the fragment does not name."""
        given = self.request.inputs[number]
        frames = list(self._read(given)) if isinstance(given, ExchangeInput) else []
        return (pl.concat(frames) if frames else pl.DataFrame()).lazy()


_temporary = partial(tempfile.TemporaryDirectory, prefix="frazil-replay-")


class _Output(PassingStore):
    """Writes into a store of its own, and reads what it did not write from the exchange store, if there is one.

    Parameters
    ----------
    own
        Where it writes.
    exchange
        What else is read.
    """

    def __init__(self, own: Store, exchange: Store | None) -> None:
        super().__init__(own)
        self._exchange = exchange

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        return self._of(key).get(key)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`."""
        return self._of(key).get_range(key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return several ranges."""
        return self._of(key).get_ranges(key, ranges)

    def _of(self, key: str) -> Store:
        return self._store if key.startswith(f"{_OUTPUT}/") or self._exchange is None else self._exchange


def _sink_here(sink: SinkOutput, place: Path) -> SinkOutput:
    """Return a sink that writes below a folder of this machine."""
    node = node_of(sink)
    sink_options(node)["cloud_options"] = None
    return msgspec.structs.replace(sink, node=msgspec.msgpack.encode(node), folder=str(place / "files"))


def _frames(written: Descriptor, store: Store) -> dict[int, pl.DataFrame]:
    return {
        partition: pl.concat(list(read_exchange(store, ExchangeInput(blocks=block_refs(written, 0, partition)))))
        for partition in dict.fromkeys(info.partition for info in written.blocks)
    }
