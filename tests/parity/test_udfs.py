"""Python functions in plans, over tiny splits, against single-node Polars on the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from polars.io.plugins import register_io_source

import frazil
from frazil_functions.errors import PythonPlanError, QueryError
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of

pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.PolarsInefficientMapWarning")

FRAME = pl.DataFrame(
    {
        "id": range(23),
        "k": [n % 4 if n % 5 else None for n in range(23)],
        "x": [float("nan") if n % 7 == 0 else (n / 2 if n % 3 else None) for n in range(23)],
        "s": [f"s{n % 6}" for n in range(23)],
    }
)
SCHEMA = FRAME.schema


@dataclass(frozen=True)
class Case:
    build: Callable[[pl.LazyFrame], pl.LazyFrame]
    ordered: bool = True
    fallback: bool = False


class OwnError(Exception):
    """A class that functions know by its module only."""


def plus_one(value: int) -> int:
    return value + 1


def first_two(group: pl.DataFrame) -> pl.DataFrame:
    return group.head(2)


def _fail(error: Exception) -> Callable[[object], object]:
    def fail(value: object) -> object:
        raise error

    return fail


CASES: dict[str, Case] = {
    "map_elements": Case(lambda t: t.with_columns(pl.col("id").map_elements(plus_one, return_dtype=pl.Int64))),
    "map_elements over nulls": Case(
        lambda t: t.select("id", pl.col("k").map_elements(lambda v: None if v == 2 else f"<{v}>", return_dtype=pl.String))
    ),
    "map_elements with nulls not skipped": Case(
        lambda t: t.select(pl.col("k").map_elements(lambda v: v is None, return_dtype=pl.Boolean, skip_nulls=False))
    ),
    "map_elements without a dtype": Case(lambda t: t.select(pl.col("id").map_elements(lambda v: [v, v]))),
    "map_elements of structs": Case(
        lambda t: t.select(pl.struct("id", "s").map_elements(lambda row: f"{row['id']}{row['s']}", return_dtype=pl.String))
    ),
    "filter by map_elements": Case(
        lambda t: t.filter(pl.col("id").map_elements(lambda v: v % 3 == 1, return_dtype=pl.Boolean))
    ),
    "map_elements of nothing": Case(
        lambda t: t.filter(pl.col("id") < 0).select(pl.col("id").map_elements(plus_one, return_dtype=pl.Int64))
    ),
    "key by map_elements": Case(
        lambda t: t.group_by(pl.col("id").map_elements(lambda v: v % 3, return_dtype=pl.Int64)).agg(pl.col("k").sum()),
        ordered=False,
    ),
    "sum of map_elements": Case(lambda t: t.select(pl.col("id").map_elements(plus_one, return_dtype=pl.Int64).sum())),
    "map_batches by elements": Case(
        lambda t: t.select(pl.col("x").map_batches(lambda s: s * 2, return_dtype=pl.Float64, is_elementwise=True))
    ),
    "map_batches of a whole column": Case(
        lambda t: t.select(pl.col("id").map_batches(lambda s: s.reverse(), return_dtype=pl.Int64)), fallback=True
    ),
    "map_batches of whole groups": Case(
        lambda t: t.group_by("k").agg(
            pl.col("id").map_batches(lambda s: s.sum() - s.len(), return_dtype=pl.Int64, returns_scalar=True)
        ),
        ordered=False,
    ),
    "map_batches over a window": Case(
        lambda t: t.with_columns(d=pl.col("id").map_batches(lambda s: s - s.min(), return_dtype=pl.Int64).over("k"))
    ),
    "map_groups of columns": Case(
        lambda t: t.group_by("s").agg(
            pl.map_groups(["id", "k"], lambda c: c[0].sum() * 2, return_dtype=pl.Int64, returns_scalar=True)
        ),
        ordered=False,
    ),
    "fold": Case(lambda t: t.select(pl.fold(pl.lit(0), lambda a, b: a + b, ["id", "k"])), fallback=True),
    "names by a function": Case(lambda t: t.select(pl.all().name.map(str.upper)).rename(lambda name: f"{name}_")),
    "map_batches of the whole frame": Case(lambda t: t.map_batches(lambda df: df.reverse()), fallback=True),
    "map_batches of batches": Case(lambda t: t.map_batches(lambda df: df.filter(pl.col("id") > 7), streamable=True)),
    "map_batches of batches to another schema": Case(
        lambda t: t.map_batches(lambda df: df.select(n="id"), streamable=True, schema={"n": pl.Int64}).with_row_index()
    ),
    "map_groups": Case(lambda t: t.group_by("k").map_groups(first_two, schema=SCHEMA), ordered=False),
    "map_groups by an expression": Case(
        lambda t: t.group_by(pl.col("id") % 3).map_groups(lambda df: df.tail(1), schema=SCHEMA), ordered=False
    ),
    "map_groups of colocated groups": Case(
        lambda t: (
            t.group_by("k", "s").agg(pl.col("id").median()).group_by("k").map_groups(first_two, schema=None).select("k")
        ),
        ordered=False,
    ),
    "map_groups in order": Case(
        lambda t: t.group_by("k", maintain_order=True).map_groups(first_two, schema=SCHEMA), fallback=True
    ),
    "map_groups in an order that nobody sees": Case(
        lambda t: t.group_by("k", maintain_order=True).map_groups(first_two, schema=SCHEMA).sort("id")
    ),
    "python source": Case(
        lambda t: t.join(
            register_io_source(lambda *_: iter([pl.DataFrame({"k": [1, 2, 2]})]), schema={"k": pl.Int64}),
            on="k",
        ),
        ordered=False,
        fallback=True,
    ),
}

FAILURES: dict[str, Case] = {
    "builtin": Case(lambda t: t.select(pl.col("id").map_elements(_fail(ZeroDivisionError("no")), return_dtype=pl.Int64))),
    "key": Case(lambda t: t.select(pl.col("id").map_elements(_fail(KeyError("no")), return_dtype=pl.Int64))),
    "of polars": Case(
        lambda t: t.group_by("k").map_groups(cast("Any", _fail(pl.exceptions.DuplicateError("no"))), schema=SCHEMA)
    ),
    "of a module": Case(lambda t: t.select(pl.col("id").map_elements(_fail(OwnError("no")), return_dtype=pl.Int64))),
    "wrong dtype": Case(lambda t: t.select(pl.col("id").map_batches(lambda s: s.cast(str), return_dtype=pl.Int64))),
    "wrong schema": Case(lambda t: t.map_batches(lambda df: df.rename({"id": "n"}), streamable=True)),
    "while planning": Case(lambda t: t.rename(cast("Any", _fail(LookupError("no"))))),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("udfs") / "t.parquet"
    FRAME.write_parquet(path, row_group_size=6)
    return str(path)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    settings = frazil.Settings(start_small=False, max_rows_per_split=4, allow_udfs=True)
    with frazil.local(max_functions=2, settings=settings) as local:
        yield local


@pytest.mark.parametrize("name", CASES)
def test_answer_equals_polars(name: str, engine: frazil.Engine, table: str) -> None:
    case = CASES[name]
    query = case.build(pl.scan_parquet(table))
    assert_same(query.collect(engine=engine), query.collect(), ordered=case.ordered)
    stages = stages_of(engine)
    assert bool(fallbacks(stages)) is case.fallback
    assert most_tasks(stages) > 1


@pytest.mark.parametrize("name", FAILURES)
def test_what_a_function_raises_reaches_the_user_as_its_class(name: str, engine: frazil.Engine, table: str) -> None:
    query = FAILURES[name].build(pl.scan_parquet(table))
    with pytest.raises(Exception) as expected:  # noqa: PT011  # whatever polars raises
        query.collect()
    with pytest.raises(expected.type) as raised:
        query.collect(engine=engine)
    assert type(raised.value) is expected.type
    if name != "while planning":
        assert raised.value.__notes__[-1].startswith("frazil: stage "), "it was raised in a function"


def test_a_class_that_the_client_does_not_know_is_named(engine: frazil.Engine, table: str) -> None:
    class LocalError(Exception):
        pass

    fail = _fail(LocalError("no"))
    with pytest.raises(QueryError, match="no") as raised:
        pl.scan_parquet(table).select(pl.col("id").map_elements(fail, return_dtype=pl.Int64)).collect(engine=engine)
    assert raised.value.exception.endswith("LocalError")


def test_python_is_refused_by_default_and_the_setting_named(table: str) -> None:
    query = pl.scan_parquet(table).select(pl.col("id").map_elements(plus_one, return_dtype=pl.Int64))
    with frazil.local(max_functions=1) as local, pytest.raises(PythonPlanError, match="allow_udfs"):
        query.collect(engine=local)
