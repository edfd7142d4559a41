"""The command ``python -m benchmarks.polars_suite``.

Exit codes: 0 all as expected, 1 an unexpected failure or a stale exception, 2 the suite could not be run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from benchmarks.polars_suite.report import EXCEPTIONS, judge, read_exceptions, render
from benchmarks.polars_suite.runs import (
    CHECKOUT_VARIABLE,
    FOLDERS,
    Again,
    SuiteError,
    SuiteOptions,
    baseline,
    through_frazil,
)
from benchmarks.processes import ProcessError

__all__ = ["main"]

_FAILED, _NOT_RUN, _INTERRUPTED = 1, 2, 130


def _arguments(argv: Sequence[str] | None) -> tuple[SuiteOptions, Path]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.polars_suite",
        description=f"Polars' own tests through Frazil. The checkout of Polars is named by {CHECKOUT_VARIABLE}.",
    )
    parser.add_argument("paths", nargs="*", help="files, folders or tests below py-polars (default: the folders of docs)")
    parser.add_argument("--folder", type=Path, default=Path(".polars-suite"), help="keeps baselines, records and logs")
    parser.add_argument("--jobs", type=int, default=2, help="pytest workers (default 2)")
    parser.add_argument("--max-functions", type=int, default=2, help="function processes at once (default 2)")
    parser.add_argument(
        "--again",
        choices=get_args(Again),
        default="all",
        help="of the run before: run what is missing, or has failed too, or has run in one task too",
    )
    parser.add_argument("--exceptions", type=Path, default=EXCEPTIONS, help="the table of exceptions")
    chosen = parser.parse_args(argv)
    if chosen.jobs < 1 or chosen.max_functions < 1:
        parser.error("--jobs and --max-functions must be at least 1")
    folder = chosen.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    checkout = _checkout()
    paths = tuple(chosen.paths) or tuple(
        f"tests/unit/{name}" for name in FOLDERS if (checkout / "tests/unit" / name).is_dir()
    )
    options = SuiteOptions(
        checkout=checkout,
        folder=folder,
        paths=paths,
        jobs=chosen.jobs,
        functions=chosen.max_functions,
        again=chosen.again,
    )
    return options, chosen.exceptions


def _checkout() -> Path:
    named = os.environ.get(CHECKOUT_VARIABLE)
    if not named:
        raise SuiteError(f"set {CHECKOUT_VARIABLE} to a checkout of https://github.com/pola-rs/polars")
    for place in (Path(named).absolute() / "py-polars", Path(named).absolute()):
        if (place / "tests" / "unit").is_dir():
            return place
    raise SuiteError(f"{CHECKOUT_VARIABLE}={named}: there is no py-polars/tests/unit in it")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite twice, print what came of it, and return the exit code."""
    try:
        options, exceptions = _arguments(argv)
        table = read_exceptions(exceptions)
        plain = baseline(options)
        passing = [test for test, record in plain.items() if record.outcome == "passed"]
        verdict = judge(plain, through_frazil(options, passing), table)
    except (OSError, ProcessError, SuiteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _NOT_RUN
    except KeyboardInterrupt:
        return _INTERRUPTED
    print(render(verdict))
    return 0 if verdict.is_good else _FAILED


if __name__ == "__main__":
    sys.exit(main())
