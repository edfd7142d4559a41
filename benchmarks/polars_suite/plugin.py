"""The pytest plugin: runs chosen tests, through Frazil when it is told of a coordinator, and writes a record of each.

Loaded by :mod:`.runs` with ``-p``. With xdist, workers run tests and the controller writes. It changes no test: only what
engine the tests' queries get (:mod:`.engine`). Read by :mod:`.report`.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from benchmarks.polars_suite.records import Outcome, QueryRecord, TestRecord, append_record

__all__ = ["TOKEN_VARIABLE", "pytest_addoption", "pytest_configure"]

TOKEN_VARIABLE: Final = "FRAZIL_SUITE_TOKEN"
_NOTES: Final = "frazil"
_ERROR_CHARACTERS: Final = 300


class _Notes(msgspec.Struct, frozen=True):
    """What a worker tells of a test, on top of what pytest tells."""

    error: str = ""
    queries: tuple[QueryRecord, ...] = ()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what :mod:`.runs` passes."""
    group = parser.getgroup("polars-suite")
    group.addoption("--suite-records", help="file to write a record of each test to")
    group.addoption("--suite-only", help="file with the ids of the tests to run, one a line; by default all")
    group.addoption("--suite-url", help="coordinator that runs the queries; by default polars runs them")


def pytest_configure(config: pytest.Config) -> None:
    """Start as a worker that runs tests, as the controller that writes, or as both."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or not config.getoption("numprocesses", None):
        config.pluginmanager.register(_Worker(config), "polars-suite-worker")
    if not is_worker and (records := config.getoption("--suite-records")):
        config.pluginmanager.register(_Writer(Path(records)), "polars-suite-writer")


class _Worker:
    """Chooses tests, and notes what each asked of Frazil."""

    def __init__(self, config: pytest.Config) -> None:
        only = config.getoption("--suite-only")
        self._only = None if only is None else frozenset(Path(only).read_text().splitlines())
        self._journal = None
        if url := config.getoption("--suite-url"):
            from benchmarks.polars_suite.engine import Journal, route  # the baseline runs without frazil

            self._journal = Journal()
            route(url, os.environ[TOKEN_VARIABLE], self._journal)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self._only is not None:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in self._only])
            items[:] = [item for item in items if item.nodeid in self._only]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        notes = _Notes(error=_error(call) if report.failed else "")
        if self._journal is not None and call.when == "teardown":  # what the test changed of polars is as before again
            notes = _Notes(error=notes.error, queries=self._journal.take())
        report.user_properties = [*report.user_properties, (_NOTES, msgspec.json.encode(notes).decode())]
        return report


def _error(call: pytest.CallInfo[None]) -> str:
    if call.excinfo is None:
        return ""
    lines = str(call.excinfo.value).strip().splitlines() or [""]
    return f"{call.excinfo.typename}: {lines[0]}"[:_ERROR_CHARACTERS]


@dataclasses.dataclass
class _Phases:
    """What is known of a test so far: it has a setup, a call and a teardown."""

    outcome: Outcome = "passed"
    seconds: float = 0.0
    notes: _Notes = dataclasses.field(default_factory=_Notes)


class _Writer:
    """Makes one record of the phases of a test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, _Phases] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        phases = self._open.setdefault(report.nodeid, _Phases())
        phases.seconds += report.duration
        told = dict(report.user_properties).get(_NOTES)
        notes = _Notes(error=_crash(report)) if told is None else msgspec.json.decode(str(told), type=_Notes)
        phases.notes = msgspec.structs.replace(notes, error=phases.notes.error or notes.error)
        if report.outcome == "failed" or (report.outcome == "skipped" and phases.outcome == "passed"):
            phases.outcome = report.outcome
        if report.when not in ("setup", "call"):  # a worker that died reports a phase of its own
            self._write(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        for test in tuple(self._open):
            self._write(test)

    def _write(self, test: str) -> None:
        phases = self._open.pop(test)
        notes = phases.notes
        record = TestRecord(
            id=test,
            outcome=phases.outcome,
            seconds=round(phases.seconds, 3),
            error=notes.error,
            queries=notes.queries,
        )
        append_record(self._path, record)


def _crash(report: pytest.TestReport) -> str:
    text = str(report.longrepr or "").strip()
    return text.splitlines()[0][:_ERROR_CHARACTERS] if text else ""
