"""Binds the inputs of a task into its fragment: every placeholder scan gives way to what the task really reads.

Splits become scans of the same kind with the same options, so that Polars pushes projections, predicates and slices into
them; exchange blocks become a Python source that Polars streams and pushes into likewise. Nothing is read here, and a
fragment that came with Python objects of its own is refused before anything is deserialised, unless the process allows
them. Next on the main path: :mod:`frazil_functions.run`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import TracebackType
from typing import Final, Protocol, Self, cast

import msgspec
import polars as pl

from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import PlanError
from frazil_functions.task import ExchangeInput, ScanInput, Split, TaskInput
from frazil_functions.text_ranges import Dialect, RangeFile, with_header

__all__ = ["BoundFragment", "ReadExchange", "bind"]

_UNION: Final[Mapping[str, object]] = {
    "parallel": True,
    "rechunk": False,
    "to_supertypes": False,
    "diagonal": False,
    "strict": False,
    "from_partitioned_ds": False,
    "maintain_order": True,
}
"""What `pl.concat(how="vertical")` writes."""


class ReadExchange(Protocol):
    """Streams the rows of an exchange input, in block order."""

    def __call__(
        self,
        exchange: ExchangeInput,
        *,
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows that match, with the columns that are wanted."""
        ...


class _LiveReader:
    """One exchange input of a running task; read anew each time Polars asks."""

    def __init__(self, exchange: ExchangeInput, read: ReadExchange) -> None:
        self._exchange = exchange
        self._read = read
        self.error: BaseException | None = None

    def frames(
        self, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        """Stream what is wanted. The first error is kept: Polars may hand it on as text only."""
        try:
            yield from self._read(self._exchange, with_columns=with_columns, predicate=predicate, n_rows=n_rows)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = self.error or error
            raise


_READERS: Final[dict[str, _LiveReader]] = {}
"""The readers of the tasks that run in this process. Polars pickles a source when it serialises a plan, so the source holds
a key into this instead of the reader."""


class _ExchangeSource:
    """What Polars calls for the rows of an exchange input. Pickled by reference to this module, with its key only."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(
        self, with_columns: list[str] | None, predicate: bytes | None, n_rows: int | None, _batch_size: int | None
    ) -> tuple[Iterator[pl.DataFrame], bool]:
        wanted = None if predicate is None else pl.Expr.deserialize(predicate)
        return _READERS[self._key].frames(with_columns, wanted, n_rows), True


@dataclass(slots=True)
class _Held:
    """What a bound fragment must let go of."""

    keys: list[str] = field(default_factory=list)
    ranges: list[tuple[RangeFile, object]] = field(default_factory=list)

    def release(self) -> None:
        for key in self.keys:
            _READERS.pop(key, None)
        for file, _ in self.ranges:
            file.close()


class BoundFragment:
    """A fragment that can run; a context manager, because its readers are registered while it lives.

    Attributes
    ----------
    lf
        The fragment with its inputs in place.
    scan_options
        For every scan input that has splits: its splits and the polars ``cloud_options`` it is read with.
    optimizations
        What Polars may do to it.
    """

    def __init__(
        self,
        lf: pl.LazyFrame,
        scan_options: Sequence[tuple[tuple[Split, ...], object]],
        optimizations: pl.QueryOptFlags,
        held: _Held,
    ) -> None:
        self.lf = lf
        self.optimizations = optimizations
        self.scan_options = tuple(scan_options)
        self._held = held

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._held.release()

    def fill_ranges(self) -> None:
        """Read the ranges of lines that the fragment scans.

        Raises
        ------
        BordersError
            When nobody knows that they start and end where lines do.
        """
        for file, options in self._held.ranges:
            file.fill(options)

    @property
    def range_lines(self) -> int:
        """Lines of all ranges."""
        return sum(file.lines for file, _ in self._held.ranges)

    @property
    def splits(self) -> tuple[Split, ...]:
        """Every split that the fragment scans."""
        return tuple(split for splits, _ in self.scan_options for split in splits)

    def reader_error(self) -> BaseException | None:
        """Return the first error that a reader of exchange blocks raised, if any."""
        return next((reader.error for key in self._held.keys if (reader := _READERS.get(key)) and reader.error), None)


def _optimizations(arena: Arena) -> pl.QueryOptFlags:
    """Return what Polars may do to a plan without changing its answer.

    Polars 2.1 puts a slice into the join below it, and then takes the order that the join keeps for one that nobody looks
    at, if nobody above the slice does: other rows are cut off, now and then.
    """
    kinds = {arena.kind(number) for number in arena.reachable()}
    return pl.QueryOptFlags(check_order_observe=not {"Slice", "Join"} <= kinds)


def bind(plan: bytes, inputs: Sequence[TaskInput], read: ReadExchange, *, allow_udfs: bool = False) -> BoundFragment:
    """Put the inputs of a task in the place of its fragment's placeholders.

    Parameters
    ----------
    plan
        The serialised fragment.
    inputs
        ``inputs[n]`` takes the place of every scan of ``frazil-input:///<n>``.
    read
        Reads exchange inputs.
    allow_udfs
        Whether the fragment may hold Python objects of the user's, which Polars then unpickles and calls.

    Raises
    ------
    PlanError
        When the fragment can't be read, or names an input that the task does not have.
    PythonPlanError
        When the fragment holds Python objects and may not.
    PlanVersionError
        When another version of polars wrote the fragment.
    """
    arena = Arena.decode(plan)
    if not allow_udfs:
        arena.refuse_python("FRAZIL_ALLOW_UDFS of the functions is off")
    held = _Held()
    try:
        scans = _replace(arena, inputs, read, held)
        return BoundFragment(arena.lazy(), scans, _optimizations(arena), held)
    except BaseException:
        held.release()
        raise


def _replace(
    arena: Arena, inputs: Sequence[TaskInput], read: ReadExchange, held: _Held
) -> list[tuple[tuple[Split, ...], object]]:
    """Replace every placeholder; return the scans of the result, and add to `held` what was registered."""
    replacements: dict[int, int] = {}
    scans: list[tuple[tuple[Split, ...], object]] = []
    for number, nodes in arena.placeholders().items():
        if number >= len(inputs):
            raise PlanError(f"the fragment reads input {number}, and the task has {len(inputs)}")
        given = inputs[number]
        if isinstance(given, ExchangeInput) and given.blocks:
            held.keys.append(_register(_LiveReader(given, read)))
            source = _python_scan(held.keys[-1], _schema(arena, nodes[0]))
            bound = {node: arena.append(source) for node in nodes}
        elif isinstance(given, ExchangeInput) or not given.splits:  # most inputs of most tasks of a union
            empty = Arena.of(pl.LazyFrame(schema=_schema(arena, nodes[0])))
            bound = {node: arena.append(empty) for node in nodes}
        else:
            bound = {node: _bind_scan(arena, node, given, held) for node in nodes}
            scans.append((given.splits, _cloud_options(arena, nodes[0])))
        if given.predicate is not None:
            schema = _schema(arena, nodes[0])
            bound = {node: _filtered(arena, place, given.predicate, schema) for node, place in bound.items()}
        replacements |= bound
    arena.redirect(replacements)
    return scans


def _schema(arena: Arena, placeholder: int) -> pl.Schema:
    """Return the placeholder's own schema: with everything that its scan options add, and without any I/O."""
    return arena.lazy(placeholder).collect_schema()


def _filtered(arena: Arena, number: int, predicate: bytes, schema: pl.Schema) -> int:
    """Add a filter of what node `number` yields, and return its number; Polars pushes it into a scan."""
    pattern = Arena.of(pl.LazyFrame(schema=schema).filter(pl.Expr.deserialize(predicate)))
    return arena.add(arena.with_inputs(pattern.nodes[pattern.root], [number]))


def _register(reader: _LiveReader) -> str:
    key = uuid.uuid4().hex
    _READERS[key] = reader
    return key


def _python_scan(key: str, schema: pl.Schema) -> Arena:
    lf = pl.LazyFrame._scan_python_function(  # noqa: SLF001  # register_io_source without its closure, which only cloudpickle can write
        schema=schema, scan_fn=_ExchangeSource(key), pyarrow=False, validate_schema=False, is_pure=False
    )
    return Arena.of(lf)


def _bind_scan(arena: Arena, node: int, given: ScanInput, held: _Held) -> int:
    """Add the nodes that read the splits of `given` the way the placeholder `node` says, and return their root."""
    scans: list[int] = []
    for whole, run in groupby(given.splits, key=lambda split: split.whole):
        splits = tuple(run)
        if whole:
            scans.append(arena.add(_scan_of(arena, node, splits, given.scan_type)))
        else:
            scans.extend(
                arena.add(_scan_of(arena, node, (split,), given.scan_type))
                if split.length is None
                else _scan_range(arena, node, split, held)
                for split in splits
            )
    if len(scans) == 1:
        return scans[0]
    return arena.add({"Union": {"inputs": scans, "args": dict(_UNION)}})


def _scan_of(arena: Arena, node: int, splits: tuple[Split, ...], scan_type: bytes | None) -> Raw:
    """Return the placeholder's scan with `splits` as its sources: whole files, or one part of a file."""
    scan = dict(arena.payload(node))
    arguments = dict(cast("Raw", scan["unified_scan_args"]))
    arguments["glob"] = False
    if not splits[0].whole:
        arguments["pre_slice"] = {"Positive": {"offset": splits[0].offset, "len": splits[0].rows}}
    if (index := cast("Raw | None", arguments.get("row_index"))) is not None:
        # Polars counts from the start of the file that it is given, also when it skips rows.
        arguments["row_index"] = {**index, "offset": cast("int", index["offset"]) + splits[0].rows_before}
    if splits[0].hive_start:
        arguments["hive_options"] = {**cast("Raw", arguments["hive_options"]), "hive_start_idx": splits[0].hive_start}
    arguments["row_count"] = _row_count(arguments, splits)
    scan["unified_scan_args"] = arguments
    if scan_type is not None:
        scan["scan_type"] = msgspec.msgpack.decode(scan_type)
    scan["sources"] = {"Paths": [{"inner": split.path} for split in splits]}
    return {arena.kind(node): scan}


def _row_count(arguments: Raw, splits: tuple[Split, ...]) -> tuple[int, int] | None:
    """Return the rows of the files, and how many of them are deleted; None when nobody has counted them.

    Polars opens no file to learn its columns when it is told them, as it is here, and so would know no rows either. Then it
    builds the hash table of a join from the wrong side, and filters the scan of the other side by no keys. It also answers
    ``len()`` from this number, so it must be exact. Of the later part of a file nothing is said: Polars takes the
    number for that of the rows to come.
    """
    if arguments.get("deletion_files") is not None or any(not split.rows or split.offset for split in splits):
        return None
    return sum(split.rows for split in splits), 0


def _scan_range(arena: Arena, node: int, split: Split, held: _Held) -> int:
    """Add the scan of a range of lines, which will lie in memory, and return its root."""
    scan = arena.payload(node)
    arguments = dict(cast("Raw", scan["unified_scan_args"]))
    file = RangeFile(split, Dialect.of(scan["scan_type"]))
    held.ranges.append((file, arguments.get("cloud_options")))
    path_column = cast("str | None", arguments.get("include_file_paths"))
    arguments |= {"glob": False, "include_file_paths": None, "cloud_options": None}
    changed: Raw = {"unified_scan_args": arguments, "sources": {"Paths": [{"inner": file.path}]}}
    if split.header is not None:
        changed["scan_type"] = with_header(cast("Raw", scan["scan_type"]))
    number = arena.add({arena.kind(node): {**scan, **changed}})
    if path_column is None:
        return number
    return arena.append(Arena.of(arena.lazy(number).with_columns(pl.lit(split.path).alias(path_column))))


def _cloud_options(arena: Arena, node: int) -> object:
    return cast("Raw", arena.payload(node)["unified_scan_args"]).get("cloud_options")
