"""Runs the tests of a checkout of Polars in pytest processes of their own, plain or through a coordinator.

What is run is decided here (:data:`FOLDERS`, :data:`MARKS`); what is noted of each test, in :mod:`.plugin`; what the
notes say, in :mod:`.report`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import polars as pl

from benchmarks.polars_suite.plugin import TOKEN_VARIABLE
from benchmarks.polars_suite.records import DISTRIBUTED_ROWS, TestRecord, read_records
from benchmarks.processes import free_ports, program, run_process, wait_until_healthy

__all__ = ["CHECKOUT_VARIABLE", "FOLDERS", "Again", "SuiteError", "SuiteOptions", "baseline", "stays", "through_frazil"]

CHECKOUT_VARIABLE: Final = "FRAZIL_POLARS_CHECKOUT"
FOLDERS: Final = ("lazyframe", "operations", "sql", "streaming", "expr", "functions", "datatypes", "io")
MARKS: Final = "not slow and not release and not docs and not hypothesis and not benchmark and not ci_only"
"""As Polars' own default, but with the tests that write to disk."""

Again: TypeAlias = Literal["all", "missing", "failed", "undistributed"]

_ROOT: Final = Path(__file__).parents[2]
_TEST_TIMEOUT_S: Final = 90
_QUERY_TIMEOUT_S: Final = 60
_MOST_TASKS: Final = 16
"""Parts of a frame; a test of thousands of rows learns nothing from thousands of tasks."""

_SPLIT_BYTES: Final = 100
"""Of a split of a text file, whose rows nobody counts."""

_WARNINGS: Final = ("ignore::DeprecationWarning", "ignore::pytest.PytestRemovedIn10Warning")
"""The checkout's words may be older than the installed Polars and pytest; warnings that a test expects are still seen."""

_RAN: Final = (0, 1, 2, 5)
"""Exit codes of pytest after which there are records: passed, failed, modules that can't be imported, nothing to run."""


class SuiteError(Exception):
    """The suite can't be run; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What to run, and where to keep what is known."""

    checkout: Path
    """Folder that holds Polars' ``tests/unit`` (``py-polars`` of its repository)."""

    folder: Path
    """Keeps baselines, records and logs."""

    paths: tuple[str, ...]
    """Files, folders or tests, relative to the checkout."""

    jobs: int = 2
    """pytest workers; one is no process of its own."""

    functions: int = 2
    """Function processes at once."""

    again: Again = "all"
    """Which tests to run through Frazil: all, or of the run before those without a record, or those too that failed, or
    those too that ran in one task over more rows than a split."""


def baseline(options: SuiteOptions) -> Mapping[str, TestRecord]:
    """Return the record of every test on Polars alone; from the cache when these tests ran on this Polars before.

    Raises
    ------
    SuiteError
        When pytest can't run them.
    """
    cache = options.folder / f"baseline-{_fingerprint(options)}.jsonl"
    if not cache.exists():
        unfinished = cache.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        _pytest(options, options.paths, unfinished, [], {})
        unfinished.rename(cache)
    return read_records(cache)


def through_frazil(options: SuiteOptions, tests: Sequence[str]) -> Mapping[str, TestRecord]:
    """Return the record of each of `tests`, its queries run by Frazil in tiny tasks.

    Raises
    ------
    SuiteError
        When pytest can't run them.
    ProcessError
        When the coordinator does not start.
    """
    records = options.folder / "records.jsonl"
    if options.again == "all":
        records.unlink(missing_ok=True)
    before = read_records(records) if records.exists() else {}
    chosen = [test for test in tests if test not in before or not stays(before[test], options.again)]
    if not chosen:
        return before
    only = options.folder / "only.txt"
    only.write_text("\n".join(chosen))
    modules = sorted({test.partition("::")[0] for test in chosen})
    with _coordinator(options) as (url, token):
        _pytest(options, modules, records, [f"--suite-only={only}", f"--suite-url={url}"], {TOKEN_VARIABLE: token})
    return read_records(records)


def stays(record: TestRecord, again: Again) -> bool:
    """Return whether a test of the run before need not run again."""
    if again == "missing":
        return True
    return record.outcome == "passed" and (again == "failed" or not record.is_multi_row or record.is_distributed)


@contextlib.contextmanager
def _coordinator(options: SuiteOptions) -> Iterator[tuple[str, str]]:
    """Run ``frazil serve`` while the context lasts, and give its URL and token."""
    (port,) = free_ports(1)
    url, token, log = f"http://127.0.0.1:{port}", secrets.token_urlsafe(16), options.folder / "coordinator.log"
    command = [program("frazil"), "serve", f"--port={port}", f"--max-functions={options.functions}", "--idle-s=600"]
    settings = {
        "FRAZIL_TOKEN": token,
        "FRAZIL_START_SMALL": "false",
        "FRAZIL_MAX_ROWS_PER_SPLIT": str(DISTRIBUTED_ROWS),
        "FRAZIL_MAX_TASKS_PER_STAGE": str(_MOST_TASKS),
        "FRAZIL_SPLIT_TARGET_BYTES": str(_SPLIT_BYTES),
        "FRAZIL_ALLOW_UDFS": "true",
        "FRAZIL_TIMEOUT_S": str(_QUERY_TIMEOUT_S),
        "PYTHONPATH": str(options.checkout),  # functions of test modules travel by the module's name
        "RUST_BACKTRACE": "0",
    }
    with run_process(command, log=log, env=settings, grace_s=15.0) as process:
        wait_until_healthy(f"{url}/healthz", name="the coordinator", process=process, log=log)
        yield url, token


def _pytest(
    options: SuiteOptions, paths: Sequence[str], records: Path, extra: Sequence[str], variables: Mapping[str, str]
) -> None:
    records.touch()
    command = [sys.executable, "-m", "pytest", "-p", "benchmarks.polars_suite.plugin", "-p", "no:asyncio"]
    command += [
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout_func_only=true",
        "-q",
        "--no-header",
        "--tb=short",
        "--continue-on-collection-errors",
        "-m",
        MARKS,
    ]
    command += [
        f"--timeout={_TEST_TIMEOUT_S}",
        f"--numprocesses={options.jobs if options.jobs > 1 else 0}",
        f"--suite-records={records}",
        *extra,
    ]
    for warning in _WARNINGS:
        command += ["-W", warning]
    log = records.with_suffix(".log")
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as out:
        done = subprocess.run(
            [*command, *paths],
            cwd=options.checkout,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "RUST_BACKTRACE": "0", **variables},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode not in _RAN:
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise SuiteError(f"pytest ended with {done.returncode}: {' '.join(last)} (all of it: {log})")


def _fingerprint(options: SuiteOptions) -> str:
    """Return a name for everything that the baseline depends on."""
    digest = hashlib.sha256()
    for part in (pl.__version__, platform.python_version(), MARKS, *_WARNINGS, *options.paths):
        digest.update(part.encode() + b"\0")
    for file in sorted((options.checkout / "tests").rglob("*.py")):
        digest.update(str(file.relative_to(options.checkout)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
