"""Partitions: decided by values alone, with order kept and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal, assert_series_equal
from polars.testing.parametric import dataframes

from frazil_functions.errors import PlanError
from frazil_functions.exchange.partition import hash_partitions, row_encode, split_by_partition
from frazil_functions.task import SortKey
from support.block_frames import every_dtype

KEY = (pl.col("c").meta.serialize(),)
MANY = 1 << 20
NESTED_OR_ODD = [pl.Object, pl.Categorical, pl.Enum, pl.Decimal, pl.Extension, pl.Map]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def partitions(frame: pl.DataFrame, *keys: pl.Expr, count: int = MANY) -> list[int]:
    """Return the partition of each row, by default out of so many that different keys rarely meet."""
    serialised = tuple(key.meta.serialize() for key in keys) or KEY
    return hash_partitions(frame, serialised, count).to_list()


def test_equal_keys_meet_whatever_the_chunks_and_the_nulls_beside_them() -> None:
    for name, frame in every_dtype().items():
        whole = partitions(frame)
        chunked = pl.concat([frame, frame], rechunk=False).slice(1, frame.height)
        assert partitions(chunked) == [*whole[1:], whole[0]], name
        present = frame.filter(pl.col("c").is_not_null())
        expected = [part for part, null in zip(whole, frame["c"].is_null(), strict=True) if not null]
        assert partitions(present) == expected, name
        assert partitions(frame.clear()) == []


def test_an_integer_meets_itself_beside_other_values_and_in_a_compound_key() -> None:
    left = pl.DataFrame({"a": [5, None, 7], "b": ["x", "y", None]})
    right = pl.DataFrame({"a": [5, 6], "b": ["x", "x"]})
    assert partitions(left, pl.col("a"))[0] == partitions(right, pl.col("a"))[0]
    both = (pl.col("a"), pl.col("b"))
    assert partitions(left, *both)[0] == partitions(right, *both)[0]
    assert len({*partitions(left, *both), *partitions(right, *both)}) == 4


@pytest.mark.parametrize("dtype", [pl.Float16, pl.Float32, pl.Float64])
@pytest.mark.parametrize("nested", [False, True])
def test_zeros_meet_and_nans_meet(dtype: type[pl.DataType], nested: bool) -> None:
    frame = pl.DataFrame({"c": pl.Series([0.0, -0.0, float("nan"), -float("nan"), 1.0]).cast(dtype)})
    frame = frame.select(pl.struct("c").alias("c")) if nested else frame
    zero, minus_zero, nan, minus_nan, one = partitions(frame)
    assert zero == minus_zero
    assert nan == minus_nan
    assert len({zero, nan, one}) == 3


def test_categorical_enum_and_string_of_the_same_text_meet_at_any_depth() -> None:
    texts = ["b", "a", None, "b"]
    kinds = [pl.String(), pl.Categorical(), pl.Enum(["b", "a"]), pl.Enum(["a", "z", "b"])]
    for wrap in (pl.col("c"), pl.struct("c"), pl.concat_list("c"), pl.concat_list(pl.struct("c"))):
        found = {tuple(partitions(pl.DataFrame({"c": pl.Series(texts, dtype=kind)}), wrap)) for kind in kinds}
        assert len(found) == 1


def test_nulls_of_a_key_share_a_partition() -> None:
    for name, frame in every_dtype().items():
        assert len(set(partitions(frame.clear(3)))) == 1, name


def test_keys_may_be_expressions_and_literals_and_share_a_name() -> None:
    frame = pl.DataFrame({"a": [1, 2, 3], "b": [2, 4, 6]})
    assert partitions(frame, pl.col("a") * 2) == partitions(frame, pl.col("b"))
    assert len(partitions(frame, pl.lit(1))) == 3
    assert len(set(partitions(frame, pl.col("a"), pl.col("a") * 0))) == 3


def test_without_keys_or_with_one_partition_all_rows_are_in_partition_0() -> None:
    frame = pl.DataFrame({"c": [1, 2, 3]})
    assert hash_partitions(frame, (), 8).to_list() == [0, 0, 0]
    assert hash_partitions(frame, KEY, 1).to_list() == [0, 0, 0]


@pytest.mark.parametrize("count", [2, 3, 8, 60, 64])
@pytest.mark.parametrize("step", [1, 1024])
def test_integers_spread_evenly(count: int, step: int) -> None:
    found = pl.Series(partitions(pl.DataFrame({"c": range(0, 50_000 * step, step)}), count=count)).value_counts()
    assert found.height == count
    assert found["count"].to_list() == pytest.approx([50_000 / count] * count, rel=0.2)


def test_bytes_that_are_no_expression_are_a_plan_error() -> None:
    with pytest.raises(PlanError, match="no expression"):
        hash_partitions(pl.DataFrame({"c": [1]}), (b"nonsense",), 4)


def test_another_process_decides_the_same() -> None:
    script = (
        "import json, polars as pl\n"
        "warm = pl.Series(['z', 'y', 'x', 'q', 'b', 'a'], dtype=pl.Categorical)\n"  # gives the strings other numbers
        "from support.block_frames import every_dtype\n"
        "from frazil_functions.exchange.partition import hash_partitions\n"
        "key = (pl.col('c').meta.serialize(),)\n"
        f"print(json.dumps({{name: hash_partitions(f, key, {MANY}).to_list() for name, f in every_dtype().items()}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert json.loads(done.stdout) == {name: partitions(frame) for name, frame in every_dtype().items()}


@QUICK
@given(frame=dataframes(min_cols=1, max_cols=3, max_size=30, excluded_dtypes=[pl.Object], chunked=True), data=st.data())
def test_parts_hold_every_row_once_in_order_with_equal_keys_together(frame: pl.DataFrame, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(frame.columns), min_size=1, max_size=2, unique=True))
    count = data.draw(st.integers(1, 5))
    numbered = frame.with_row_index("__row")
    index = hash_partitions(numbered, tuple(pl.col(name).meta.serialize() for name in names), count)
    parts = split_by_partition(numbered, index)
    for part in parts.values():
        assert part.height > 0
        assert part["__row"].is_sorted()
        assert part.columns == numbered.columns
    if parts:
        whole = pl.concat(parts.values()).sort("__row")
        assert_frame_equal(whole, numbered)
    assert set(parts) == set(index.unique())
    again = hash_partitions(numbered.reverse(), tuple(pl.col(name).meta.serialize() for name in names), count).reverse()
    assert_series_equal(again, index)
    groups = numbered.with_columns(index.alias("__part")).group_by(names).agg(pl.col("__part").n_unique())
    assert groups["__part"].max() in (None, 1)


def test_rows_without_columns_are_kept_when_they_are_split() -> None:
    parts = split_by_partition(pl.DataFrame(height=5), pl.Series([0, 1, 0, 1, 1], dtype=pl.UInt32))
    assert {number: part.shape for number, part in parts.items()} == {0: (2, 0), 1: (3, 0)}


SORTABLE = [pl.Int8, pl.Int64, pl.UInt32, pl.Float32, pl.Float64, pl.String, pl.Binary, pl.Boolean, pl.Date, pl.Time]


@QUICK
@given(
    frame=dataframes(cols=2, max_size=20, allowed_dtypes=SORTABLE),
    flags=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_the_order_of_encoded_keys_is_the_order_of_sort(frame: pl.DataFrame, flags: list[bool]) -> None:
    names, descending, nulls_last = frame.columns, flags[:2], flags[2:]
    keys = [
        SortKey(column=name, descending=down, nulls_last=last)
        for name, down, last in zip(names, descending, nulls_last, strict=True)
    ]
    ordered = frame.sort(names, descending=descending, nulls_last=nulls_last, maintain_order=True)
    encoded = row_encode(ordered, keys).to_list()
    assert encoded == sorted(encoded)
    assert [bytes(row_encode(ordered.slice(row, 1), keys)[0]) for row in range(ordered.height)] == encoded
