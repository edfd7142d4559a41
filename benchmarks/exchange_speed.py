"""What the exchange costs beside plain IPC files: MB of in-memory data that one core writes, reads and parts in a second.

::

    python -m benchmarks.exchange_speed [--mb 256] [--runs 5] [--partitions 16,256,1024] [--codec auto] [--json FILE]

Flat rows are like lineitem's; nested ones are the same rows gathered into lists of structs, four to a list, and as many
bytes in memory. ``write`` is the real `ExchangeWriter` from batches to an object in a folder, ``read`` the real reader over
all its blocks; ``plain`` is ``write_ipc`` and ``read_ipc`` of one file with the same compression, in the same run and by
turns. ``part`` is what of the writing is hashing the key and gathering rows by partition, which a plain file does without;
``rest`` compares what is left of it. Seconds are CPU seconds of the whole process, user and system, medians; a busy machine
changes them less than the clock's.

``--profile write|read`` does nothing but that, for so many runs, so that a profiler sees little else.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final, Literal, get_args

import polars as pl

from benchmarks.block_codec import lineitem
from benchmarks.record import write_record
from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.partition import hash_partitions, split_by_partition
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter, WrittenOutput
from frazil_functions.storage import FolderStore
from frazil_functions.task import CodecChoice, ExchangeInput, Output, TaskStats

__all__ = ["Cell", "frame_of", "main", "measure"]

Shape = Literal["flat", "nested"]

_BATCH_ROWS: Final = 100_000
_PARTED_ROWS: Final = 512 * 1024
"""Rows that the writer parts at once."""

_MB: Final = 1e6
_KEY: Final = "l_orderkey"
_COMPRESSION: Final[dict[str, Literal["uncompressed", "lz4", "zstd"]]] = {"ipc_lz4": "lz4", "ipc_zstd": "zstd"}
"""By codec; of others, which are not IPC or not compressed, the plain file is not compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Medians for one shape of data and one number of partitions; CPU seconds."""

    shape: Shape
    partitions: int
    codec: str
    raw_bytes: int
    """In-memory bytes."""

    object_bytes: int
    write_s: float
    part_s: float
    """Hashing and gathering, which are part of writing."""

    hash_s: float
    """Hashing alone."""

    plain_write_s: float
    read_s: float
    plain_read_s: float

    @property
    def write_ratio(self) -> float:
        """How fast the exchange writes, as a multiple of the plain file."""
        return self.plain_write_s / self.write_s

    @property
    def rest_ratio(self) -> float:
        """The same without hashing and gathering."""
        return self.plain_write_s / (self.write_s - self.part_s)

    @property
    def read_ratio(self) -> float:
        """How fast the exchange reads, as a multiple of the plain file."""
        return self.plain_read_s / self.read_s

    def mb_s(self, seconds: float) -> float:
        """Return the MB of in-memory data a CPU second."""
        return self.raw_bytes / _MB / seconds


def frame_of(shape: Shape, raw_bytes: int) -> pl.DataFrame:
    """Return about so many bytes of rows in memory."""

    def rows(count: int) -> pl.DataFrame:
        flat = lineitem(count)
        if shape == "flat":
            return flat
        return flat.group_by(_KEY, maintain_order=True).agg(pl.struct(pl.exclude(_KEY)).alias("lines"))

    sample = 100_000
    return rows(int(sample * raw_bytes / rows(sample).estimated_size())).rechunk()


def _batches(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Return the rows as the streaming engine gives them: in batches of few rows."""
    step = max(1, _BATCH_ROWS * frame.width // 12)
    return [frame.slice(offset, step) for offset in range(0, frame.height, step)]


def _write(output: Output, store: FolderStore, batches: Sequence[pl.DataFrame]) -> WrittenOutput:
    writer = ExchangeWriter(output, store=store, key="object", map_index=0)
    for batch in batches:
        writer.write(batch)
    return writer.finish()


def _read(store: FolderStore, written: WrittenOutput) -> int:
    blocks = block_refs(written.descriptor(TaskStats()), 0)
    return sum(block.height for block in read_exchange(store, ExchangeInput(blocks=blocks)))


def _part(output: Output, frame: pl.DataFrame, *, gather: bool) -> None:
    for offset in range(0, frame.height, _PARTED_ROWS):
        rows = frame.slice(offset, _PARTED_ROWS)
        partition = hash_partitions(rows, output.hash_keys, output.partitions)
        if gather:
            split_by_partition(rows, partition)


def _cpu_s(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def measure(shape: Shape, frame: pl.DataFrame, partitions: int, codec: CodecChoice, runs: int, folder: Path) -> Cell:
    """Write, read and part by turns, and return the medians.

    Raises
    ------
    RuntimeError
        When other rows are read than were written.
    """
    key = pl.col(_KEY).meta.serialize()
    output = Output(kind="hash", partitions=partitions, hash_keys=(key,), codec=codec, inline_limit_bytes=0)
    store, batches, plain = FolderStore(folder), _batches(frame), folder / "plain.ipc"
    written = _write(output, store, batches)
    if _read(store, written) != frame.height:
        raise RuntimeError(f"{shape}, {partitions} partitions: rows were lost")
    acts: dict[str, Callable[[], object]] = {
        "write_s": partial(_write, output, store, batches),
        "plain_write_s": partial(frame.write_ipc, plain, compression=_COMPRESSION.get(codec, "uncompressed")),
        "read_s": partial(_read, store, written),
        "plain_read_s": partial(pl.read_ipc, plain),
        "part_s": partial(_part, output, frame, gather=True),
        "hash_s": partial(_part, output, frame, gather=False),
    }
    seen: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, act in acts.items():
            seen.setdefault(name, []).append(_cpu_s(act))
    return Cell(
        shape=shape,
        partitions=partitions,
        codec="/".join(sorted({block.codec for block in written.blocks})),
        raw_bytes=int(frame.estimated_size()),
        object_bytes=written.bytes,
        **{name: median(times) for name, times in seen.items()},
    )


def _line(cell: Cell) -> str:
    writes = (cell.write_s, cell.plain_write_s)
    reads = (cell.read_s, cell.plain_read_s)
    return (
        f"| {cell.shape} | {cell.partitions:,} | {cell.codec} | {' | '.join(f'{cell.mb_s(one):,.0f}' for one in writes)} | "
        f"{cell.write_ratio:.2f} | {cell.rest_ratio:.2f} | {' | '.join(f'{cell.mb_s(one):,.0f}' for one in reads)} | "
        f"{cell.read_ratio:.2f} | {cell.mb_s(cell.part_s) / 1000:.2f} | {cell.mb_s(cell.hash_s) / 1000:.2f} |"
    )


def _nested_against_flat(cells: Sequence[Cell]) -> str:
    """Return how much longer nested data takes, byte for byte."""
    of = {(cell.shape, cell.partitions): cell for cell in cells}
    lines = ["| partitions | write: nested / flat | read: nested / flat |", "|---:|---:|---:|"]
    for partitions in dict.fromkeys(cell.partitions for cell in cells):
        flat, nested = of.get(("flat", partitions)), of.get(("nested", partitions))
        if flat is not None and nested is not None:
            write = flat.mb_s(flat.write_s) / nested.mb_s(nested.write_s)
            read = flat.mb_s(flat.read_s) / nested.mb_s(nested.read_s)
            lines.append(f"| {partitions:,} | {write:.2f} | {read:.2f} |")
    return "\n".join(lines)


def _profile(what: str, frame: pl.DataFrame, partitions: int, codec: CodecChoice, runs: int, folder: Path) -> None:
    key = pl.col(_KEY).meta.serialize()
    output = Output(kind="hash", partitions=partitions, hash_keys=(key,), codec=codec, inline_limit_bytes=0)
    store, batches = FolderStore(folder), _batches(frame)
    written = _write(output, store, batches)
    for _ in range(runs):
        if what == "write":
            _write(output, store, batches)
        else:
            _read(store, written)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange_speed", description=__doc__)
    parser.add_argument("--mb", type=int, default=256, help="in-memory MB of each frame (default 256)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each figure, by turns (default 5)")
    parser.add_argument("--partitions", default="16,256,1024", help="parted by commas (default 16,256,1024)")
    parser.add_argument("--shapes", default="flat,nested", help="flat, nested, or both (the default)")
    parser.add_argument("--codec", choices=get_args(CodecChoice), default="auto", help="of the blocks (default auto)")
    parser.add_argument("--profile", choices=("write", "read"), help="do only that, for the first partitions and shape")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print two tables."""
    options = _arguments(argv)
    counts = [int(count) for count in options.partitions.split(",")]
    shapes: list[Shape] = [shape for shape in get_args(Shape) if shape in options.shapes.split(",")]
    with tempfile.TemporaryDirectory(prefix="frazil-exchange-") as name:
        if options.profile is not None:
            frame = frame_of(shapes[0], options.mb * int(_MB))
            _profile(options.profile, frame, counts[0], options.codec, options.runs, Path(name))
            return
        print(
            f"{options.mb} MB in memory, medians of {options.runs} runs by turns, MB a CPU second (parting: GB)\n\n"
            "| rows | partitions | codec | write | plain | ratio | rest | read | plain | ratio | part | of it hash |\n"
            "|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
        )
        cells = []
        for shape in shapes:
            frame = frame_of(shape, options.mb * int(_MB))
            for count in counts:
                cells.append(measure(shape, frame, count, options.codec, options.runs, Path(name)))
                print(_line(cells[-1]), flush=True)
    print(f"\n{_nested_against_flat(cells)}")
    if options.json is not None:
        found = [
            {**asdict(cell), "write_ratio": cell.write_ratio, "rest_ratio": cell.rest_ratio, "read_ratio": cell.read_ratio}
            for cell in cells
        ]
        write_record(options.json, "exchange_speed", {"mb": options.mb, "runs": options.runs, "cells": found})


if __name__ == "__main__":
    main()
