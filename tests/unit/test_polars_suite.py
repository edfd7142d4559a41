"""What is made of the records of Polars' own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.polars_suite.records import QueryRecord, TestRecord, append_record, read_records
from benchmarks.polars_suite.report import judge, read_exceptions, render
from benchmarks.polars_suite.runs import Again, stays


def record(name: str, outcome: str = "passed", **notes: object) -> TestRecord:
    return TestRecord(id=name, outcome=outcome, **notes)  # type: ignore[arg-type]  # one of the three


def table(*records: TestRecord) -> dict[str, TestRecord]:
    return {one.id: one for one in records}


def query(rows: int = 9, tasks: int = 3, *fallbacks: str, state: str = "succeeded") -> QueryRecord:
    return QueryRecord(state=state, rows=rows, tasks=tasks, fallbacks=fallbacks)


def test_only_tests_that_polars_passes_are_asked_of_frazil() -> None:
    plain = table(record("a"), record("b", "failed"), record("c", "skipped"))
    verdict = judge(plain, table(record("a"), record("b", "failed")), {})
    assert verdict.baseline == verdict.passed == ("a",)
    assert verdict.is_good


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_a_test_that_no_longer_passes_is_a_failure(outcome: str) -> None:
    verdict = judge(table(record("a")), table(record("a", outcome, error="E: no")), {})
    assert verdict.failed == {"a": "E: no"}
    assert not verdict.is_good
    assert "FAILED a - E: no" in render(verdict)


def test_a_test_whose_worker_died_is_a_failure() -> None:
    assert "did not run" in judge(table(record("a"), record("b")), table(record("a")), {}).failed["b"]


def test_an_exception_excuses_its_test_and_is_stale_when_that_passes() -> None:
    plain = table(record("a"), record("b"))
    excused = judge(plain, table(record("a", "failed"), record("b")), {"a": "why"})
    assert (excused.excused, excused.failed, excused.is_good) == (("a",), {}, True)
    assert judge(plain, table(record("a"), record("b")), {"a": "why"}).stale == ("a",)


def test_an_exception_without_parameters_stands_for_all_and_is_needed_by_one() -> None:
    plain = table(record("t[1]"), record("t[2]"))
    assert judge(plain, table(record("t[1]"), record("t[2]", "failed")), {"t": "why"}).is_good
    assert judge(plain, table(record("t[1]"), record("t[2]")), {"t": "why"}).stale == ("t",)


@pytest.mark.parametrize(
    ("again", "staying"),
    [
        ("missing", ["failed", "in one task", "in several", "of few rows"]),
        ("failed", ["in one task", "in several", "of few rows"]),
        ("undistributed", ["in several", "of few rows"]),
    ],
)
def test_what_need_not_run_again_is_left_out(again: Again, staying: list[str]) -> None:
    records = (
        record("failed", "failed"),
        record("in one task", queries=(query(9, 1, "why"),)),
        record("in several", queries=(query(9, 1, "why"), query())),
        record("of few rows", queries=(query(2, 1),)),
    )
    assert [one.id for one in records if stays(one, again)] == staying


def test_an_exception_for_a_test_that_was_not_run_is_left_alone() -> None:
    assert judge(table(record("a")), table(record("a")), {"elsewhere": "why"}).is_good


@pytest.mark.parametrize(
    ("queries", "multi_row", "distributed"),
    [
        ((query(),), True, True),
        ((query(4),), False, False),
        ((query(9, 1),), True, False),
        ((query(9, 3, "why"),), True, False),
        ((query(9, 3, "why"), query()), True, True),
        ((query(state="failed"),), False, False),
        ((), False, False),
    ],
)
def test_a_test_is_distributed_by_one_query_in_several_tasks_without_a_fallback(
    queries: tuple[QueryRecord, ...], multi_row: bool, distributed: bool
) -> None:
    verdict = judge(table(record("a")), table(record("a", queries=queries)), {})
    assert (bool(verdict.multi_row), bool(verdict.distributed)) == (multi_row, distributed)


def test_reasons_are_counted_by_test() -> None:
    ran = table(record("a", queries=(query(9, 1, "x"), query(9, 1, "x", "y"))), record("b", queries=(query(9, 1, "x"),)))
    assert judge(table(record("a"), record("b")), ran, {}).fallbacks == {"x": 2, "y": 1}


def test_the_last_record_of_a_test_counts(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    for outcome in ("failed", "passed"):
        append_record(path, record("a", outcome, queries=(query(),)))
    assert read_records(path) == table(record("a", queries=(query(),)))


def test_every_exception_of_the_table_says_why() -> None:
    table = read_exceptions()
    assert all("::" in test and len(reason) > 10 for test, reason in table.items())
