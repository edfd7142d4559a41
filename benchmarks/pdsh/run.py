"""Runs PDS-H through local functions and compares every answer with Polars: ``python -m benchmarks.pdsh.run --help``.

The exit code is 1 when an answer differs, and 2 when something needed is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import frazil
from benchmarks.pdsh.data import DataError, generate, upload
from benchmarks.pdsh.harness import Outcome, many_tasks, run_polars, run_query
from benchmarks.pdsh.queries import QUERIES
from benchmarks.pdsh.report import as_markdown, as_table, write_section
from benchmarks.pdsh.tables import Tables
from benchmarks.processes import ProcessError
from benchmarks.seaweed import run_seaweed

__all__ = ["main"]

_PAGE = Path(__file__).parents[2] / "docs" / "pdsh.md"
_PARTS = 8
_JOINS = {"shuffle": "every join shuffles", "broadcast": "small sides of joins are broadcast"}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pdsh.run", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="scale factor of the data (default 0.1)")
    parser.add_argument("--store", choices=("folder", "s3"), default="folder", help="for data and exchange")
    parser.add_argument("--queries", default="", help="numbers, e.g. 1,3,18 (default: all 22)")
    parser.add_argument("--joins", choices=(*_JOINS, "both"), default="both", help="how joins bring rows together")
    parser.add_argument("--split-bytes", type=int, default=64 * 1024, help="compressed bytes a scan task (default 65536)")
    parser.add_argument("--split-rows", type=int, default=40_000, help="most rows a scan task, 0 for any (default 40000)")
    parser.add_argument("--max-functions", type=int, default=2, help="function processes (default 2)")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="folder that keeps the data (default .demo)")
    parser.add_argument("--write-docs", action="store_true", help=f"write the tables into {_PAGE.name}")
    return parser.parse_args(argv)


@contextlib.contextmanager
def places(store: str, data: Path, scale: float) -> Iterator[tuple[Tables, str, dict[str, str]]]:
    """Yield the tables where functions read them, and the URL and options of the exchange store."""
    with tempfile.TemporaryDirectory(prefix="frazil-pdsh-") as scratch:
        if store == "folder":
            yield Tables.scan(str(data.resolve()), scale_factor=scale), f"{scratch}/exchange", {}
            return
        secret = secrets.token_hex(16)
        with run_seaweed(Path(scratch) / "weed", access_key="pdsh", secret_key=secret, buckets=["pdsh"]) as server:
            options = server.storage_options
            upload(data, "s3://pdsh/data", storage_options=options)
            yield Tables.scan("s3://pdsh/data", scale_factor=scale, storage_options=options), "s3://pdsh/exchange", options


def _run(arguments: argparse.Namespace, console: Console) -> dict[str, list[Outcome]]:
    numbers = [int(number) for number in arguments.queries.split(",") if number] or list(QUERIES)
    data: Path = arguments.data / f"sf{arguments.scale:g}-{_PARTS}"
    console.print(f"data: scale factor {arguments.scale:g} in {data}")
    generate(data, scale_factor=arguments.scale, parts=_PARTS)
    here = Tables.scan(str(data), scale_factor=arguments.scale)
    expected = {number: run_polars(number, here) for number in numbers}
    ways = list(_JOINS) if arguments.joins == "both" else [arguments.joins]
    outcomes: dict[str, list[Outcome]] = {way: [] for way in ways}
    with places(arguments.store, data, arguments.scale) as (tables, store, options):
        for way in ways:
            settings = many_tasks(
                split_bytes=arguments.split_bytes, split_rows=arguments.split_rows or None, broadcast=way == "broadcast"
            )
            functions = arguments.max_functions
            with frazil.local(max_functions=functions, store=store, storage_options=options, settings=settings) as engine:
                for number in numbers:
                    outcome = run_query(engine, number, tables, expected[number])
                    outcomes[way].append(outcome)
                    tasks, seconds = outcome.figures.tasks, outcome.seconds
                    verdict = "equal" if outcome.difference is None else f"DIFFERENT: {outcome.difference}"
                    console.print(f"{way} Q{number}: {tasks} tasks, {seconds:.2f} s, {escape(verdict)}")
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _arguments(argv)
    console = Console(highlight=False)
    try:
        outcomes = _run(arguments, console)
    except (DataError, ProcessError) as error:
        console.print(f"error: {escape(str(error))}", style="red", soft_wrap=True)
        return 2
    where = {"folder": "a folder", "s3": "SeaweedFS"}[arguments.store]
    titles = {way: f"Scale factor {arguments.scale:g}, data and exchange in {where}, {_JOINS[way]}" for way in outcomes}
    for way, rows in outcomes.items():
        console.print(as_table(titles[way], rows))
    if arguments.write_docs:
        write_section(_PAGE, f"table {arguments.store}", (as_markdown(titles[way], rows) for way, rows in outcomes.items()))
    return 1 if any(row.difference is not None for rows in outcomes.values() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
