"""Runs PDS-DS through local functions and compares every answer with Polars: ``python -m benchmarks.pdsds.run --help``.

The exit code is 1 when an answer differs, and 2 when something needed is missing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import frazil
from benchmarks.pdsds import tiny
from benchmarks.pdsds.check import check
from benchmarks.pdsds.data import DataError, generate
from benchmarks.pdsds.harness import run_query
from benchmarks.pdsds.queries import QUERIES
from benchmarks.pdsds.tables import scan
from benchmarks.pdsh.harness import Outcome, many_tasks
from benchmarks.pdsh.report import as_markdown, as_table, write_section

__all__ = ["main"]

_PAGE = Path(__file__).parents[2] / "docs" / "pdsds.md"
_JOINS = {"shuffle": "every join shuffles", "broadcast": "small sides of joins are broadcast"}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pdsds.run", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.1, help="scale factor of the data, 0 for the tests' (default 0.1)")
    parser.add_argument("--queries", default="", help="numbers, e.g. 1,3,18 (default: all 99)")
    parser.add_argument("--joins", choices=tuple(_JOINS), default="shuffle", help="how joins bring rows together")
    parser.add_argument("--split-rows", type=int, default=20_000, help="most rows a scan task (default 20000)")
    parser.add_argument("--max-functions", type=int, default=2, help="function processes (default 2)")
    parser.add_argument("--data", type=Path, default=Path(".demo"), help="folder that keeps the data (default .demo)")
    parser.add_argument("--check", action="store_true", help="only check Polars' answers with DuckDB")
    parser.add_argument("--write-docs", action="store_true", help=f"write the table into {_PAGE.name}")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace, data: Path, numbers: Sequence[int], console: Console) -> list[Outcome]:
    tables = scan(data.resolve())
    settings = many_tasks(split_rows=arguments.split_rows, broadcast=arguments.joins == "broadcast")
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="frazil-pdsds-") as scratch,
        frazil.local(max_functions=arguments.max_functions, store=f"{scratch}/exchange", settings=settings) as engine,
    ):
        for number in numbers:
            outcome = run_query(engine, number, tables)
            outcomes.append(outcome)
            verdict = "equal" if outcome.difference is None else f"DIFFERENT: {outcome.difference}"
            console.print(f"Q{number}: {outcome.figures.tasks} tasks, {outcome.seconds:.2f} s, {escape(verdict)}")
    return outcomes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _arguments(argv)
    console = Console(highlight=False)
    numbers = [int(number) for number in arguments.queries.split(",") if number] or list(QUERIES)
    data: Path = arguments.data / (f"ds-sf{arguments.scale:g}" if arguments.scale else "ds-tiny")
    console.print(f"data: scale factor {arguments.scale:g} in {data}")
    try:
        if arguments.scale:
            generate(data, scale_factor=arguments.scale)
        else:
            tiny.generate(data)
        if arguments.check:
            wrong = check(data, numbers, console.print)
            console.print(f"{len(numbers) - wrong} of {len(numbers)} equal")
            return 1 if wrong else 0
    except DataError as error:
        console.print(f"error: {escape(str(error))}", style="red", soft_wrap=True)
        return 2
    outcomes = _run(arguments, data, numbers, console)
    title = f"Scale factor {arguments.scale:g}, data and exchange in a folder, {_JOINS[arguments.joins]}"
    console.print(as_table(title, outcomes))
    if arguments.write_docs:
        write_section(_PAGE, f"table {arguments.joins}", [as_markdown(title, outcomes)])
    return 1 if any(outcome.difference is not None for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
