"""The PDS-DS queries give Polars' answers when they are cut into many tasks; a selection always, all as slow tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl
import pytest

import frazil
from benchmarks.pdsds import tiny
from benchmarks.pdsds.harness import compare, run_query
from benchmarks.pdsds.queries import QUERIES, build, ordered_by, title
from benchmarks.pdsds.tables import TABLES, scan
from benchmarks.pdsh.harness import Outcome, many_tasks

SELECTION = {
    1: "a value of the row's own group",
    5: "grouping sets over a union of three channels",
    9: "single values among the columns",
    12: "a window over groups",
    16: "EXISTS with an inequality, NOT EXISTS",
    27: "GROUPING",
    11: "four uses of a shared union",
    35: "EXISTS and IN over a union",
    40: "a left join and conditional sums",
    41: "a correlated count",
    44: "two ranks, joined",
    47: "windows over groups, joined with themselves",
    51: "running sums, a full join, running maxima",
    67: "eight levels of grouping, then a rank",
    70: "a rank within grouping sets",
    78: "left joins that keep what has no match",
    87: "EXCEPT",
    95: "a self-join on an inequality, twice IN",
}
"""Queries that are run always: each stresses another shape."""

MEANT_TO_BE_SMALL = {41}
"""Queries of tables that are one task."""

EMPTY = {4, 6, 13, 18, 25, 31, 34, 49, 54, 58, 64, 85}
"""Queries that give nothing, or nulls, on the small tables."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pl.LazyFrame]:
    folder = tmp_path_factory.mktemp("tpcds")
    tiny.generate(folder)
    return scan(folder)


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(max_functions=2, settings=many_tasks(split_rows=300, broadcast=False)) as local:
        yield local


def _check(outcome: Outcome) -> None:
    assert outcome.difference is None
    assert outcome.figures.fallbacks == ()
    assert outcome.number in MEANT_TO_BE_SMALL or max(stage.tasks for stage in outcome.figures.stages) > 1


@pytest.mark.parametrize("number", SELECTION)
def test_a_query_is_distributed_and_equals_polars(
    number: int, tables: Mapping[str, pl.LazyFrame], engine: frazil.Engine
) -> None:
    _check(run_query(engine, number, tables))


@pytest.mark.slow
@pytest.mark.parametrize("number", [number for number in QUERIES if number not in SELECTION])
def test_any_other_query_is_distributed_and_equals_polars(
    number: int, tables: Mapping[str, pl.LazyFrame], engine: frazil.Engine
) -> None:
    _check(run_query(engine, number, tables))


@pytest.mark.slow
def test_most_queries_give_rows_on_the_small_tables(tables: Mapping[str, pl.LazyFrame]) -> None:
    answers = {number: build(number, tables).collect() for number in QUERIES}
    nothing = {number for number, rows in answers.items() if all(column.is_null().all() for column in rows.get_columns())}
    assert nothing == EMPTY


def test_there_are_99_queries_that_say_what_they_ask() -> None:
    assert list(QUERIES) == list(range(1, 100))
    assert all(QUERIES[number].startswith("-- ") and title(number).endswith(".") for number in QUERIES)


@pytest.mark.parametrize(
    ("number", "columns"), [(1, ("c_customer_id",)), (62, ("warehouse", "sm_type", "web_name")), (47, ())]
)
def test_the_order_of_an_answer_is_read_from_the_text(number: int, columns: tuple[str, ...]) -> None:
    assert ordered_by(number) == columns


def test_answers_in_another_order_differ_and_ties_do_not() -> None:
    answer = pl.DataFrame({"i_category_id": [1, 1, 2], "n": [1, 2, 3]}).rename({"i_category_id": "c_customer_id"})
    assert compare(1, answer.reverse(), answer) is not None
    assert compare(1, answer[[1, 0, 2]], answer) is None
    assert compare(1, answer[[0, 0, 2]], answer) is not None


def test_the_small_tables_refer_to_rows_that_there_are(tables: Mapping[str, pl.LazyFrame]) -> None:
    primary = {
        "item": ("item", "i_item_sk"), "customer": ("customer", "c_customer_sk"), "store": ("store", "s_store_sk"),
        "addr": ("customer_address", "ca_address_sk"), "cdemo": ("customer_demographics", "cd_demo_sk"),
    }  # fmt: skip
    keys = {target: set(tables[table].select(key).collect().to_series()) for target, (table, key) in primary.items()}
    foreign = [
        (name, column, column.removesuffix("_sk").rpartition("_")[2])
        for name in TABLES
        for column in tables[name].collect_schema().names()
        if column.endswith("_sk") and column not in {key for _, key in primary.values()}
    ]
    for name, column, target in foreign:
        if target in keys:
            assert set(tables[name].select(column).collect().to_series()) - {None} <= keys[target], (name, column)
