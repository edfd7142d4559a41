"""All 22 PDS-H queries in flight, while their coordinator is killed again and again: minutes, so by hand.

``pytest -s -m slow tests/faults/test_pdsh_crashes.py`` prints at how many positions it was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import polars as pl
import pytest

import frazil
from benchmarks.pdsh.compare import difference
from benchmarks.pdsh.data import generate
from benchmarks.pdsh.harness import many_tasks
from benchmarks.pdsh.queries import ORDERED, QUERIES
from benchmarks.pdsh.tables import Tables
from frazil_coordinator.journal.records import Ended, Record, TakenOver, decode_segment
from frazil_coordinator.schedule.commits import TaskCommitted
from frazil_coordinator.settings import Settings
from support.mortal import TOKEN, When, mortal_coordinator
from support.processes import free_ports

SCALE_FACTOR: Final = 0.01
KILLS: Final = 32


def _journals(store: Path) -> dict[str, list[Record]]:
    """Return the records of each query that was accepted."""
    return {
        folder.name: [
            record for path in sorted(folder.glob("[0-9]*")) for record in decode_segment(path.read_bytes(), str(path))
        ]
        for folder in sorted((store / "journal").glob("*"))
    }


def _unfinished(store: Path) -> int:
    return sum(not any(isinstance(record, Ended) for record in records) for records in _journals(store).values())


def _positions(store: Path) -> Iterator[tuple[int, When]]:
    """Yield at which segment to die next: some after those by which the queries are taken over, each time at another one."""
    for kill in range(KILLS):
        yield _unfinished(store) + 2 + kill % 7, "before" if kill % 2 else "after"


def _changed(settings: Settings) -> dict[str, object]:
    default = dataclasses.asdict(Settings())
    return {name: value for name, value in dataclasses.asdict(settings).items() if value != default[name]}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_query_is_lost_and_no_answer_is_computed_twice(tmp_path: Path) -> None:
    generate(tmp_path / "data", scale_factor=SCALE_FACTOR, parts=4)
    tables = Tables.scan(str(tmp_path / "data"), scale_factor=SCALE_FACTOR)
    store, (port,) = tmp_path / "store", free_ports(1)
    options = _changed(many_tasks(broadcast=False))

    def run(number: int) -> tuple[str, pl.DataFrame]:
        with frazil.connect(f"http://127.0.0.1:{port}", token=TOKEN, timeout_s=900.0) as engine:
            query = engine.submit(QUERIES[number](tables), labels=[f"q{number}"])
            return query.id, query.result()

    killed = 0
    with ThreadPoolExecutor(len(QUERIES)) as pool:
        with mortal_coordinator(store, port, options, tmp_path / "log", number=30) as process:
            answers = {number: pool.submit(run, number) for number in QUERIES}
            killed += process.wait(300.0) == -9
        for position, when in _positions(store):
            with mortal_coordinator(store, port, options, tmp_path / "log", number=position, when=when) as process:
                while process.poll() is None and not all(answer.done() for answer in answers.values()):
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
                killed += process.poll() == -9
        with mortal_coordinator(store, port, options, tmp_path / "log"):
            found = {number: answer.result() for number, answer in answers.items()}
    journals = _journals(store)
    takeovers = sum(isinstance(record, TakenOver) for records in journals.values() for record in records)
    print(f"killed at {killed} positions; {takeovers} times a query was taken over")
    assert killed > 30
    for number, (query, answer) in found.items():
        assert difference(answer, QUERIES[number](tables).collect(), order=ORDERED.get(number, {})) is None
        commits = Counter((one.stage, one.task) for one in journals[query] if isinstance(one, TaskCommitted))
        assert set(commits.values()) == {1}
        assert sum(isinstance(one, Ended) for one in journals[query]) == 1
    assert len(journals) == len(QUERIES)
