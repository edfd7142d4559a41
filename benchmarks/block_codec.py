"""What each block codec costs and saves, by size of block.

Generated rows like TPC-H's lineitem are written and read through the real writer and reader on a folder; runs of all codecs
are interleaved, so that a busy machine slows all alike, and the table shows medians::

    python benchmarks/block_codec.py [--rows 6000000] [--runs 5] [--blocks 8,64,512]

``write`` is `ExchangeWriter` from batches to the object, ``read`` fetches and decodes an eighth of the blocks. CPU
figures are those of the process with all its threads; on a busy machine they say more than the wall time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import polars as pl

from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import FolderStore
from frazil_functions.task import Codec, ExchangeInput, Output, TaskStats

_BATCH_ROWS: Final = 100_000
_READ_SHARE: Final = 8
_MIB: Final = 1024 * 1024


def lineitem(rows: int) -> pl.DataFrame:
    """Return rows of the types and spreads of TPC-H's lineitem."""
    modes = ["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]
    words = pl.Series("w", ["furiously", "quickly", "carefully", "final", "deposits", "accounts", "sleep", "even", "ironic"])
    number = pl.int_range(rows, dtype=pl.Int64)
    spread = number.hash(1)
    day = pl.date(1992, 1, 1) + pl.duration(days=(spread % 2526).cast(pl.Int64))
    pick = [pl.lit(words).gather(number.hash(seed) % len(words)) for seed in range(2, 6)]
    columns = {
        "l_orderkey": number // 4 * 4,
        "l_partkey": (number.hash(7) % 200_000).cast(pl.Int64),
        "l_suppkey": (number.hash(8) % 10_000).cast(pl.Int64),
        "l_linenumber": (number % 4 + 1).cast(pl.Int32),
        "l_quantity": (spread % 50 + 1).cast(pl.Float64),
        "l_extendedprice": (number.hash(9) % 10_000_000).cast(pl.Float64) / 100,
        "l_discount": (number.hash(10) % 11).cast(pl.Float64) / 100,
        "l_returnflag": pl.lit(pl.Series(["A", "N", "R"])).gather(spread % 3),
        "l_shipdate": day,
        "l_receiptdate": day + pl.duration(days=(number.hash(11) % 30).cast(pl.Int64)),
        "l_shipmode": pl.lit(pl.Series(modes)).gather(number.hash(12) % len(modes)),
        "l_comment": pl.concat_str(pick, separator=" "),
    }
    return pl.select([column.alias(name) for name, column in columns.items()])


def run(frame: pl.DataFrame, codec: Codec, blocks: int) -> tuple[float, float, float, float, int]:
    """Write and read once; return wall and CPU seconds of writing, both of reading an eighth of the blocks, and bytes."""
    output = Output(
        kind="hash", partitions=blocks, hash_keys=(pl.col("l_partkey").meta.serialize(),), codec=codec, inline_limit_bytes=0
    )
    with tempfile.TemporaryDirectory() as folder:
        store = FolderStore(Path(folder))
        start = _now()
        writer = ExchangeWriter(output, store=store, key="object", map_index=0)
        for offset in range(0, frame.height, _BATCH_ROWS):
            writer.write(frame.slice(offset, _BATCH_ROWS))
        written = writer.finish()
        wrote = _now()
        refs = block_refs(written.descriptor(TaskStats()), 0)[:: min(_READ_SHARE, blocks)]
        rows = sum(block.height for block in read_exchange(store, ExchangeInput(blocks=refs)))
        end = _now()
    if rows != sum(ref.rows for ref in refs):
        raise RuntimeError(f"{codec}: read {rows} rows")
    return wrote[0] - start[0], wrote[1] - start[1], end[0] - wrote[0], end[1] - wrote[1], written.bytes


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--blocks", default="8,64,512", help="numbers of blocks, parted by commas")
    options = parser.parse_args(arguments)
    frame = lineitem(options.rows)
    raw = int(frame.estimated_size())
    counts = [int(count) for count in options.blocks.split(",")]
    codecs: tuple[Codec, ...] = get_args(Codec)
    seen: dict[tuple[int, Codec], list[tuple[float, float, float, float, int]]] = {}
    for _ in range(options.runs):
        for count in counts:
            for codec in codecs:
                seen.setdefault((count, codec), []).append(run(frame, codec, count))
    print(f"{frame.height:,} rows, {raw / _MIB:,.0f} MiB in memory, medians of {options.runs} interleaved runs\n")
    print("| blocks | MiB a block, in memory | codec | write, s | CPU s | read 1/8, ms | CPU ms | size, MiB |")
    print("|---:|---:|---|---:|---:|---:|---:|---:|")
    for (count, codec), runs in seen.items():
        write, write_cpu, read, read_cpu, size = (statistics.median(values) for values in zip(*runs, strict=True))
        each = f"| {count} | {raw / count / _MIB:,.2f} | {codec} | {write:.2f} | {write_cpu:.2f} "
        print(f"{each}| {read * 1000:.0f} | {read_cpu * 1000:.0f} | {size / _MIB:,.0f} |")


if __name__ == "__main__":
    main()
