"""A stream of frames ends with all rows given, or with the error."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl
import pytest

from frazil_functions.stream import batches, feed
from support.polling import eventually


def test_all_rows_come_in_order() -> None:
    numbers = pl.LazyFrame({"n": range(300_000)})
    got = pl.concat(batches(numbers.filter(pl.col("n") % 3 == 0)))
    assert got["n"].to_list() == list(range(0, 300_000, 3))


def test_a_polars_error_is_raised() -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError):
        list(batches(pl.LazyFrame({"s": ["x"]}).select(pl.col("s").cast(pl.Int64))))


def test_a_panic_of_the_engine_is_no_empty_answer(tmp_path: Path) -> None:
    """`collect_batches` of polars 2.1 gives nothing here, and no error; the engine panics in `first` of empty lists."""
    frame = pl.DataFrame({"id": range(5), "ls": [None, None, [], [], []]}, schema={"id": pl.Int64, "ls": pl.List(pl.String)})
    frame.write_parquet(tmp_path / "t.parquet", row_group_size=2)

    def beside_its_reverse(lf: pl.LazyFrame, number: int) -> pl.LazyFrame:
        return pl.concat([lf, lf.reverse().select(pl.all().name.prefix(f"b{number}_"))], how="horizontal")

    twice = beside_its_reverse(beside_its_reverse(pl.scan_parquet(tmp_path / "t.parquet"), 1), 2)
    query = twice.filter(pl.col("id") > 0).unique("id", keep="first")
    with pytest.raises(pl.exceptions.PanicException):
        list(batches(query))


def test_who_stops_reading_stops_the_engine() -> None:
    before = threading.active_count()
    rows = pl.LazyFrame({"n": range(2_000_000)})
    stream = batches(rows.with_columns(m=pl.col("n") * 2))
    next(stream)
    stream.close()
    eventually(lambda: threading.active_count() <= before, "the thread has ended")


def test_what_is_fed_comes_in_order_and_may_run_queries_itself() -> None:
    got: list[pl.DataFrame] = []
    numbers = pl.LazyFrame({"n": range(300_000)}).filter(pl.col("n") % 3 == 0)
    assert feed(numbers, lambda frame: got.append(frame.lazy().select("n").collect(engine="streaming"))) is None
    assert pl.concat(got)["n"].to_list() == list(range(0, 300_000, 3))


def test_an_error_of_who_is_fed_is_returned_and_stops_the_engine() -> None:
    calls: list[int] = []

    def take(frame: pl.DataFrame) -> None:
        calls.append(frame.height)
        raise KeyError("mine")

    failed = feed(pl.LazyFrame({"n": range(2_000_000)}).with_columns(m=pl.col("n") * 2), take)
    assert isinstance(failed, KeyError)
    assert len(calls) == 1


def test_an_error_of_polars_is_raised_to_who_is_fed() -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError):
        feed(pl.LazyFrame({"s": ["x"]}).select(pl.col("s").cast(pl.Int64)), lambda frame: None)
