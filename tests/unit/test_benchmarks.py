"""The comparison and the prices that the benchmarks and the demonstration rest on."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks.figures import figures
from benchmarks.pdsh.compare import difference
from benchmarks.pdsh.queries import ORDERED, QUERIES
from benchmarks.pdsh.report import write_section

ORDER = {"total": True, "name": False}


@pytest.fixture
def answer() -> pl.DataFrame:
    return pl.DataFrame({"name": ["a", "b", "c"], "total": [3.0, 2.0, 2.0], "n": [1, 2, 3]})


def test_an_answer_equals_itself_and_one_whose_sums_differ_in_the_last_digit(answer: pl.DataFrame) -> None:
    assert difference(answer, answer, order=ORDER) is None
    assert difference(answer.with_columns(pl.col("total") * (1 + 1e-13)), answer, order=ORDER) is None


def test_a_wrong_value_is_found(answer: pl.DataFrame) -> None:
    assert difference(answer.with_columns(pl.col("total") * (1 + 1e-6)), answer, order=ORDER) is not None
    assert difference(answer.with_columns(n=pl.lit(1)), answer.with_columns(n=pl.lit(2)), order=ORDER) is not None


def test_a_wrong_dtype_a_wrong_name_and_a_missing_row_are_found(answer: pl.DataFrame) -> None:
    narrow = answer.with_columns(pl.col("n").cast(pl.Int32))
    assert "schema" in (difference(narrow, answer, order=ORDER) or "")
    assert "schema" in (difference(answer.rename({"n": "m"}), answer, order=ORDER) or "")
    assert "2 rows instead of 3" in (difference(answer.head(2), answer, order=ORDER) or "")


def test_rows_out_of_order_are_found_but_rows_that_tie_may_come_in_any_order(answer: pl.DataFrame) -> None:
    assert difference(answer.reverse(), answer, order=ORDER) == "not in the order of total, name"
    swapped = answer[[0, 2, 1]]
    assert difference(swapped, answer, order=ORDER) == "not in the order of total, name"
    assert difference(swapped, answer, order={"total": True}) is None
    assert difference(answer.reverse(), answer, order={}) is None


def test_every_query_has_an_order_or_one_row() -> None:
    assert set(QUERIES) == set(range(1, 23))
    assert set(QUERIES) - set(ORDERED) == {6, 14, 17, 19}


def test_figures_are_those_of_the_profile() -> None:
    stage = {
        "stage": 0, "kind": "scan", "tasks": 2, "attempts": 3, "rows_in": 1, "rows_out": 1, "bytes_in": 0, "bytes_out": 1,
        "requests": {"put": 2}, "seconds": 1.0, "function_seconds": 3.0, "peak_memory_bytes": 1, "cold_starts": 1,
        "fallbacks": ["because"],
    }  # fmt: skip
    profile = {"query": "q", "seconds": 1.0, "function_seconds": 6.0, "requests": {"put": 5}, "bytes_scanned": 7}
    used = figures({**profile, "dollars": 0.25, "stages": [stage, stage], "more": "ignored"})
    assert (used.tasks, used.attempts, used.early_fallbacks) == (4, 6, ("because",))
    assert (used.requests, used.bytes_scanned, used.dollars) == ({"put": 5}, 7, 0.25)


def test_a_section_of_a_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- t: begin -->\nold\n<!-- t: end -->\nafter\n")
    write_section(page, "t", ["one", "two"])
    assert page.read_text() == "before\n<!-- t: begin -->\n\none\n\ntwo\n\n<!-- t: end -->\nafter\n"
    with pytest.raises(ValueError, match="has no lines"):
        write_section(page, "u", ["one"])
