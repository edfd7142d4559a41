"""A shuffle of as many tasks to as many tasks in one level and in two: seconds and requests, on a folder and on real S3.

Whole groups of a table in ``--side`` files by as many partitions; the two ways run in turn, and the answers are compared::

    python -m benchmarks.two_levels [--side 256] [--rows 64] [--runs 3] [--store folder|seaweed] [--latency-ms 0]

``--latency-ms`` holds every request to SeaweedFS up for that long, as a store across a network would.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import queue
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import polars as pl

import frazil
from benchmarks.seaweed import run_seaweed

_BUCKET: Final = "two-levels"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a query did."""

    seconds: float
    function_seconds: float
    tasks: int
    gets: int
    puts: int


@contextlib.contextmanager
def delayed(endpoint: str, seconds: float) -> Iterator[str]:
    """Run a proxy that forwards what a client sends so many seconds later; yield its URL."""
    target = urlsplit(endpoint)
    told: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                if wait_s:
                    await asyncio.sleep(wait_s)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(ConnectionError):
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        with contextlib.suppress(asyncio.CancelledError):  # a connection that is idle when the server ends
            async with asyncio.TaskGroup() as group:
                group.create_task(pump(reader, back, seconds))
                group.create_task(pump(there, writer, 0.0))

    async def main() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        told.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    port, stop = told.get()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop()
        thread.join()


def write_table(folder: Path, side: int, rows: int) -> None:
    """Write one file a task, each with `rows` rows for each partition, about."""
    folder.mkdir()
    for number in range(side):
        row = pl.int_range(number * side * rows, (number + 1) * side * rows, dtype=pl.Int64)
        frame = pl.select(key=(row.hash(1) % (side * rows)).cast(pl.Int64), x=(row.hash(2) % 1000).cast(pl.Float64))
        frame.write_parquet(folder / f"{number:04}.parquet")


def measure(engine: frazil.Engine, query: pl.LazyFrame) -> tuple[pl.DataFrame, Run]:
    """Return the answer, and what the query did."""
    submitted = engine.submit(query)
    answer = submitted.result()
    profile = submitted.profile()
    stages = cast("list[dict[str, Any]]", profile["stages"])
    return answer, Run(
        seconds=cast("float", profile["seconds"]),
        function_seconds=cast("float", profile["function_seconds"]),
        tasks=sum(stage["tasks"] for stage in stages),
        gets=sum(stage["requests"].get("get", 0) for stage in stages),
        puts=sum(stage["requests"].get("put", 0) for stage in stages),
    )


@contextlib.contextmanager
def store(name: str, folder: Path, latency_s: float) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `frazil.local` that say where exchange objects go."""
    if name == "folder":
        yield {"store": str(folder / "exchange")}
        return
    with (
        run_seaweed(folder / "seaweed", access_key="bench", secret_key="bench-secret", buckets=[_BUCKET]) as seaweed,
        delayed(seaweed.endpoint, latency_s) as endpoint,
    ):
        options = {**seaweed.storage_options, "aws_endpoint_url": endpoint}
        yield {"store": f"s3://{_BUCKET}/x", "storage_options": options}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--store", choices=("folder", "seaweed"), default="folder")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args(arguments)
    one = frazil.Settings(
        start_small=False,
        split_target_bytes=1,
        shuffle_partitions=options.side,
        coalesce_bytes=0,
        inline_limit_bytes=0,
        two_level_requests=None,
    )
    ways = {"one": one, "two": replace(one, two_level_requests=1)}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        write_table(folder / "table", options.side, options.rows)
        query = (
            pl.scan_parquet(folder / "table").group_by("key").agg(pl.col("x").median()).select(pl.all().sum(), n=pl.len())
        )
        expected = query.collect(engine="streaming")
        place = stack.enter_context(store(options.store, folder, options.latency_ms / 1000))
        engines = {way: frazil.local(max_functions=2, settings=settings, **place) for way, settings in ways.items()}
        for engine in engines.values():
            stack.callback(engine.close)
        seen: dict[str, list[Run]] = {}
        for _ in range(options.runs):
            for way, engine in engines.items():
                answer, found = measure(engine, query)
                if not answer.equals(expected):
                    raise SystemExit(f"{way}: a wrong answer\n{answer}\ninstead of\n{expected}")
                seen.setdefault(way, []).append(found)
    print("| store | tasks to tasks | levels | tasks | GET | PUT | s | function s |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    what = options.store if not options.latency_ms else f"{options.store}, {options.latency_ms:g} ms a request"
    for way, runs in seen.items():
        seconds, busy = (
            statistics.median(getattr(run, figure) for run in runs) for figure in ("seconds", "function_seconds")
        )
        last = runs[-1]
        print(
            f"| {what} | {options.side} × {options.side} | {way} | {last.tasks} | {last.gets:,} | {last.puts:,} "
            f"| {seconds:.2f} | {busy:.2f} |"
        )


if __name__ == "__main__":
    main()
