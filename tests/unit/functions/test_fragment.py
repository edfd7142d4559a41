"""Binding: what takes the place of a placeholder reads the same rows, with everything that Polars can push into it."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions import fragment
from frazil_functions.arena import Arena
from frazil_functions.errors import BlockError, PlanError, PlanVersionError, PythonPlanError
from frazil_functions.fragment import BoundFragment, bind
from frazil_functions.task import BlockRef, ExchangeInput, ScanInput, Split, TaskInput
from support.functions import placeholder

FRAME = pl.DataFrame({"a": range(100), "b": [str(i % 7) for i in range(100)], "c": [float(i) for i in range(100)]})
EXCHANGE = ExchangeInput(blocks=(BlockRef(key="k", offset=0, length=8, rows=1, crc32c=0, codec="ipc", map_index=0),))
"""Of a block that the readers of these tests don't look at."""


class Reader:
    """Stands in for the exchange: serves a frame, and remembers what it was asked for."""

    def __init__(self, frame: pl.DataFrame = FRAME, error: Exception | None = None) -> None:
        self.frame = frame
        self.error = error
        self.asked: list[tuple[list[str] | None, str | None, int | None]] = []

    def __call__(
        self, exchange: ExchangeInput, *, with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None
    ) -> Iterator[pl.DataFrame]:
        self.asked.append((with_columns, None if predicate is None else str(predicate), n_rows))
        if self.error is not None:
            raise self.error
        frame = self.frame.head(n_rows) if n_rows is not None else self.frame
        frame = frame if predicate is None else frame.filter(predicate)
        yield from (frame if with_columns is None else frame.select(with_columns)).iter_slices(30)


def collected(plan: pl.LazyFrame, *inputs: TaskInput, reader: Reader | None = None) -> pl.DataFrame:
    with bind(plan.serialize(), inputs, reader or Reader()) as bound:
        return rows(bound)


def rows(bound: BoundFragment) -> pl.DataFrame:
    schema = bound.lf.collect_schema()
    frames = list(bound.lf.collect_batches(engine="streaming", lazy=True, maintain_order=True))
    return pl.concat([pl.DataFrame(schema=schema), *frames])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / f"{number}.parquet") for number in range(4)]
    for number, path in enumerate(paths):
        FRAME.slice(number * 25, 25).write_parquet(path, row_group_size=10)
    return paths


def split(path: str, offset: int = 0, count: int = 25, *, whole: bool = False) -> Split:
    return Split(path=path, offset=offset, rows=count, whole=whole)


@pytest.mark.parametrize(
    ("shape", "numbers"),
    [
        ("one whole file", [("0w",)]),
        ("several whole files", ["0w", "1w", "2w", "3w"]),
        ("a part of a file", [(1, 7, 11)]),
        ("parts of files", [(0, 20, 5), (1, 0, 3), (1, 3, 22)]),
        ("whole files and parts in turns", ["0w", "1w", (2, 5, 5), "3w", (3, 0, 1)]),
        ("nothing", []),
    ],
)
def test_splits_take_the_place_of_a_scan_in_their_order(files: list[str], shape: str, numbers: list[Any]) -> None:
    splits: list[Split] = []
    expected = [FRAME.clear()]
    for number in numbers:
        entry = number[0] if isinstance(number, tuple) and isinstance(number[0], str) else number
        if isinstance(entry, str):
            index, offset, count, whole = int(entry[0]), 0, 25, True
        else:
            index, offset, count = entry
            whole = False
        splits.append(split(files[index], offset, count, whole=whole))
        expected.append(FRAME.slice(index * 25 + offset, count))
    got = collected(placeholder(FRAME.schema), ScanInput(splits=tuple(splits)))
    assert_frame_equal(got, pl.concat(expected))


@pytest.mark.parametrize(
    ("splits", "known"),
    [
        ([(0, 0, 25, True), (1, 0, 25, True)], "ESTIMATED ROWS: 50"),
        ([(0, 0, 10, False)], "ESTIMATED ROWS: 10"),
        ([(0, 5, 10, False)], None),  # polars would take 15 for 10
        ([(0, 0, 0, True)], None),  # nobody has counted them
    ],
)
def test_polars_knows_how_many_rows_a_scan_has_as_far_as_the_planner_does(
    files: list[str], splits: list[tuple[int, int, int, bool]], known: str | None
) -> None:
    """Without, it hashes the larger side of a join, and looks up none of its keys in the scan of the other."""
    given = tuple(split(files[number], offset, count, whole=whole) for number, offset, count, whole in splits)
    for plan in (placeholder(FRAME.schema), placeholder(FRAME.schema).select(pl.len())):
        with bind(plan.serialize(), [ScanInput(splits=given)], Reader()) as bound:
            text = bound.lf.explain(engine="streaming")
            assert (known in text) if known is not None else ("ESTIMATED" not in text)
            expected = sum(count or 25 for _, _, count, _ in splits)
            assert rows(bound).shape in ((expected, FRAME.width), (1, 1))
            assert plan.collect_schema().names() != ["len"] or rows(bound).item() == expected


def test_a_predicate_counts_after_the_split(files: list[str]) -> None:
    plan = placeholder(FRAME.schema).filter(pl.col("a") % 2 == 1).select("c")
    got = collected(plan, ScanInput(splits=(split(files[0], 3, 4),)))
    assert got["c"].to_list() == [3.0, 5.0]


def test_the_options_of_the_users_scan_are_kept(files: list[str]) -> None:
    plan = pl.scan_parquet(
        "frazil-input:///0", schema=dict(FRAME.schema), glob=False, row_index_name="row", include_file_paths="file"
    )
    got = collected(plan, ScanInput(splits=(split(files[0], whole=True),)))
    assert got.columns == ["row", "a", "b", "c", "file"]
    assert got["file"].unique().to_list() == [files[0]]


def test_no_split_has_the_schema_that_the_users_scan_has() -> None:
    plan = pl.scan_parquet("frazil-input:///0", schema=dict(FRAME.schema), glob=False, row_index_name="row")
    got = collected(plan, ScanInput(splits=()))
    assert got.schema == plan.collect_schema()
    assert got.is_empty()


def test_a_path_with_wildcards_in_its_name_is_that_file_and_no_other(tmp_path: Path) -> None:
    odd, other = tmp_path / "part[1]*.parquet", tmp_path / "part1x.parquet"
    FRAME.head(3).write_parquet(odd)
    FRAME.write_parquet(other)
    assert collected(placeholder(FRAME.schema), ScanInput(splits=(split(str(odd), 0, 3, whole=True),))).height == 3


def test_exchange_blocks_stream_with_what_polars_pushes_into_them() -> None:
    reader = Reader()
    plan = placeholder(FRAME.schema).filter(pl.col("a") > 90).select("c")
    got = collected(plan, EXCHANGE, reader=reader)
    assert got["c"].to_list() == [float(i) for i in range(91, 100)]
    ((columns, predicate, n_rows),) = reader.asked
    assert columns is not None
    assert "b" not in columns
    assert predicate is not None
    assert n_rows is None


def test_a_limit_counts_before_the_predicate_above_it() -> None:
    got = collected(placeholder(FRAME.schema).head(3).filter(pl.col("a") > 1), EXCHANGE)
    assert got["a"].to_list() == [2]


def test_a_limit_counts_after_the_predicate_below_it() -> None:
    got = collected(placeholder(FRAME.schema).filter(pl.col("a") > 50).head(3), EXCHANGE)
    assert got["a"].to_list() == [51, 52, 53]


def test_an_input_may_be_read_by_several_parts_of_a_fragment(files: list[str]) -> None:
    left, right = placeholder(FRAME.schema), placeholder(FRAME.schema)
    plan = left.join(right.select("a", d="c"), on="a", maintain_order="left")
    expected = FRAME.with_columns(d="c")
    assert_frame_equal(collected(plan, EXCHANGE), expected)
    assert_frame_equal(collected(plan, ScanInput(splits=(split(files[0], whole=True),))), expected.head(25))


def test_inputs_of_both_kinds_meet_in_one_fragment(files: list[str]) -> None:
    plan = pl.concat([placeholder(FRAME.schema, 0), placeholder(FRAME.schema, 1)])
    got = collected(plan, ScanInput(splits=(split(files[3], whole=True),)), EXCHANGE)
    assert_frame_equal(got, pl.concat([FRAME.tail(25), FRAME]))


def test_nothing_is_registered_once_the_fragment_is_done() -> None:
    before = set(fragment._READERS)  # of replays that somebody still looks at
    with bind(placeholder(FRAME.schema).serialize(), [EXCHANGE], Reader()):
        assert len(set(fragment._READERS) - before) == 1
    assert set(fragment._READERS) <= before


def test_nothing_stays_registered_when_binding_fails() -> None:
    before = set(fragment._READERS)
    plan = pl.concat([placeholder(FRAME.schema, 0), placeholder(FRAME.schema, 1)])
    with pytest.raises(PlanError, match="input 1"):
        bind(plan.serialize(), [EXCHANGE], Reader())
    assert set(fragment._READERS) <= before


def test_the_error_of_a_reader_is_kept() -> None:
    error = BlockError("the block is torn")
    with bind(placeholder(FRAME.schema).serialize(), [EXCHANGE], Reader(error=error)) as bound:
        with pytest.raises(Exception, match="torn"):
            rows(bound)
        assert bound.reader_error() is error


class Explosive:
    """Shows that it was unpickled."""

    unpickled = False

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return _explode, ()


def _explode() -> None:
    Explosive.unpickled = True


def test_python_objects_are_refused_before_any_is_unpickled() -> None:
    scan = pl.LazyFrame._scan_python_function(schema={"a": pl.Int64}, scan_fn=Explosive(), is_pure=False)
    with pytest.raises(PythonPlanError):
        bind(scan.serialize(), [], Reader())
    assert not Explosive.unpickled
    pickle.loads(pickle.dumps(Explosive()))
    assert Explosive.unpickled


def test_functions_of_the_user_are_called_where_the_process_allows_them() -> None:
    doubled = placeholder(FRAME.schema).select(pl.col("a").map_batches(lambda s: s * 2, return_dtype=pl.Int64))
    with pytest.raises(PythonPlanError, match="FRAZIL_ALLOW_UDFS"):
        bind(doubled.serialize(), [EXCHANGE], Reader())
    with bind(doubled.serialize(), [EXCHANGE], Reader(), allow_udfs=True) as bound:
        assert_frame_equal(bound.lf.collect(), FRAME.select(pl.col("a") * 2))


def test_a_source_of_ours_that_came_over_the_wire_is_refused_too() -> None:
    plan = Arena.of(
        pl.LazyFrame._scan_python_function(schema={"a": pl.Int64}, scan_fn=fragment._ExchangeSource("k"), is_pure=False)
    )
    with pytest.raises(PythonPlanError):
        bind(plan.encode(), [], Reader())


def test_bytes_that_are_no_plan_are_refused() -> None:
    plan = placeholder(FRAME.schema).serialize()
    with pytest.raises(PlanError):
        bind(b"", [EXCHANGE], Reader())
    with pytest.raises(PlanError):
        bind(plan[:-5], [EXCHANGE], Reader())
    with pytest.raises(PlanVersionError):
        bind(plan[:12] + b"\xff" + plan[13:], [EXCHANGE], Reader())


def test_a_bound_fragment_is_a_plan_that_polars_reads_back() -> None:
    with bind(placeholder(FRAME.schema).serialize(), [EXCHANGE], Reader()) as bound:
        again = pl.LazyFrame.deserialize(io.BytesIO(bound.lf.serialize()))
        assert_frame_equal(again.collect(), FRAME)


def test_an_input_without_blocks_is_an_empty_table_that_nobody_reads() -> None:
    reader = Reader()
    empty = collected(placeholder(FRAME.schema), ExchangeInput(blocks=()), reader=reader)
    assert_frame_equal(empty, FRAME.clear())
    assert reader.asked == []


@pytest.mark.parametrize("how", ["full", "left", "right", "inner"])
def test_a_slice_of_a_join_keeps_the_order_of_the_join_though_nobody_else_looks_at_it(how: str) -> None:
    """Polars 2.1 forgets the order of a join that it puts the slice into: once in some hundred runs other rows are left."""
    joined = placeholder(FRAME.schema).join(FRAME.lazy(), on="a", how=how, maintain_order="right_left")  # type: ignore[arg-type]
    counted = joined.slice(3).group_by("b").agg(pl.len())
    with bind(counted.serialize(), [EXCHANGE], Reader()) as bound:
        assert not bound.optimizations.check_order_observe
    with bind(joined.group_by("b").agg(pl.len()).serialize(), [EXCHANGE], Reader()) as bound:
        assert bound.optimizations.check_order_observe
