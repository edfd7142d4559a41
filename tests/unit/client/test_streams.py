"""Rows that only this process has travel as frames: Arrow C streams, and pyarrow tables as datasets."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from polars.io.plugins import register_io_source

from frazil._serialize import serialize
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError, PythonPlanError
from support.parity import assert_same

LIMIT = 1 << 20
TIMES = pl.DataFrame({"a": [1, None, 3], "b": ["x", "y", None], "t": [None, 1, 2]})
FRAME = TIMES.with_columns(pl.col("t").cast(pl.Datetime("us", "UTC")))
SCHEMA = FRAME.to_arrow(compat_level=pl.CompatLevel.oldest()).schema


def batches() -> list[pa.RecordBatch]:
    whole = FRAME.to_arrow(compat_level=pl.CompatLevel.oldest())
    return [*whole.slice(0, 2).to_batches(), *whole.slice(2).to_batches()]


def stream() -> pl.LazyFrame:
    return pl.scan_arrow_c_stream(pa.RecordBatchReader.from_batches(SCHEMA, batches()))


def dataset(*, allow_pyarrow_filter: bool) -> pl.LazyFrame:
    return pl.scan_pyarrow_dataset(ds.dataset(pa.Table.from_batches(batches())), allow_pyarrow_filter=allow_pyarrow_filter)


@pytest.mark.parametrize(
    "scan",
    [stream, lambda: dataset(allow_pyarrow_filter=True), lambda: dataset(allow_pyarrow_filter=False)],
    ids=["stream", "dataset", "dataset without pyarrow's filters"],
)
@pytest.mark.parametrize(
    "query",
    [lambda lf: lf, lambda lf: lf.filter(pl.col("a") > 0).select("t", pl.col("b").fill_null("-")), lambda lf: lf.head(2)],
    ids=["all", "filter and columns", "first rows"],
)
def test_rows_of_this_process_are_sent_as_a_frame(
    scan: Callable[[], pl.LazyFrame], query: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> None:
    plan = Arena.decode(serialize(query(scan()), max_plan_bytes=LIMIT))
    assert not plan.python_functions()
    assert_same(plan.lazy().collect(), query(FRAME.lazy()).collect(), ordered=True)


def test_a_stream_that_a_query_reads_twice_is_read_once() -> None:
    lf = stream()
    plan = Arena.decode(serialize(lf.join(lf, on="a"), max_plan_bytes=LIMIT))
    assert_same(plan.lazy().collect(), FRAME.lazy().join(FRAME.lazy(), on="a").collect(), ordered=False)


def test_a_stream_without_rows_has_its_columns() -> None:
    lf = pl.scan_arrow_c_stream(pa.RecordBatchReader.from_batches(SCHEMA, []))
    assert_same(Arena.decode(serialize(lf, max_plan_bytes=LIMIT)).lazy().collect(), FRAME.clear(), ordered=True)


def test_each_of_several_sinks_gets_the_rows() -> None:
    sinks = [stream().sink_csv(name, lazy=True) for name in ("x.csv", "y.csv")]
    with pytest.raises(PlanError, match="several") as raised:
        serialize(pl.collect_all(sinks, lazy=True), max_plan_bytes=LIMIT)
    plans = [serialize(sink, max_plan_bytes=LIMIT) for sink in raised.value.sinks]  # type: ignore[attr-defined]
    assert not any(Arena.decode(plan).python_functions() for plan in plans)


def test_a_stream_is_not_used_up_for_an_explanation() -> None:
    lf = stream()
    with pytest.raises(PlanError, match="can be read once only"):
        serialize(lf, max_plan_bytes=LIMIT, runs=False)
    assert_same(Arena.decode(serialize(lf, max_plan_bytes=LIMIT)).lazy().collect(), FRAME, ordered=True)


def test_of_more_rows_than_a_plan_holds_only_those_are_read() -> None:
    read: list[int] = []

    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            read.append(1)
            yield pa.record_batch([pa.array([0] * 1000)], names=["a"])

    schema = pa.schema([pa.field("a", pa.int64())])
    lf = pl.scan_arrow_c_stream(pa.RecordBatchReader.from_batches(schema, endless()))
    with pytest.raises(PlanError, match=r"Settings\.max_plan_bytes"):
        serialize(lf, max_plan_bytes=20_000)
    assert len(read) < 10


def test_nobody_else_can_pickle_what_has_rows_of_this_process() -> None:
    lf = stream()
    serialize(lf, max_plan_bytes=LIMIT)
    with pytest.raises(pl.exceptions.ComputeError, match="cannot pickle"):
        lf.serialize()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(ds.dataset(pa.Table.from_batches(batches())))


def test_other_objects_of_this_process_are_still_refused() -> None:
    lock = threading.Lock()

    def rows(*_: object) -> Iterator[pl.DataFrame]:
        with lock:
            yield FRAME

    with pytest.raises(PythonPlanError, match="can't be sent"):
        serialize(register_io_source(rows, schema=FRAME.schema), max_plan_bytes=LIMIT)
