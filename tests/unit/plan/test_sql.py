"""The expansion of SQL nodes: what is replaced, what is left alone, and that nothing is read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.sql import expand_sql
from frazil_coordinator.plan.sql.dialect import Unclear
from frazil_coordinator.plan.sql.expand import build_sql
from frazil_functions.arena import Arena

T = pl.LazyFrame({"a": [1, 2, None], "b": ["x", "y", None]})
U = pl.LazyFrame({"a": [1, 5], "c": [0.5, None]})


def _arena(sql: str) -> Arena:
    return Arena.of(pl.SQLContext({"t": T, "u": U}).execute(sql))


def _kinds(arena: Arena) -> list[str]:
    return [arena.kind(number) for number in arena.reachable()]


def test_the_nodes_are_those_of_the_clauses() -> None:
    arena = expand_sql(_arena("SELECT b, SUM(a) AS s FROM t WHERE a > 0 GROUP BY b ORDER BY s LIMIT 1"))
    kinds = _kinds(arena)
    assert "SQL" not in kinds
    assert {"Filter", "GroupBy", "Sort", "Slice"} <= set(kinds)


def test_limit_stands_right_above_the_sort() -> None:
    arena = expand_sql(_arena("SELECT b AS k FROM t ORDER BY a LIMIT 1"))
    (limit,) = [number for number in arena.reachable() if arena.kind(number) == "Slice"]
    assert [arena.kind(number) for number in arena.inputs(limit)] == ["Sort"]


def test_a_statement_over_a_statement_is_replaced_wholly() -> None:
    arena = expand_sql(Arena.of(T.sql("SELECT * FROM self WHERE a > 1").sql("SELECT b FROM self")))
    assert "SQL" not in _kinds(arena)
    assert arena.lazy().collect().to_dict(as_series=False) == {"b": ["y"]}


def test_a_relation_as_it_is_becomes_the_plan() -> None:
    arena = expand_sql(_arena("SELECT x.a, y.b FROM t AS x JOIN t AS y ON x.a = y.a ORDER BY 1"))
    assert _kinds(arena).count("DataFrameScan") == 1
    assert arena.lazy().collect().rows() == [(1, "x"), (2, "y")]


def test_relations_of_equal_columns_are_told_apart() -> None:
    tables = {"p": pl.LazyFrame({"a": [1]}), "q": pl.LazyFrame({"a": [2]})}
    arena = expand_sql(Arena.of(pl.SQLContext(tables).execute("SELECT a FROM q UNION ALL SELECT a FROM p")))
    assert arena.lazy().collect()["a"].to_list() == [2, 1]


def test_scans_are_not_read(tmp_path: Path) -> None:
    scan = pl.scan_parquet(tmp_path / "absent.parquet", schema={"a": pl.Int64}, glob=False)
    arena = expand_sql(Arena.of(scan.sql("SELECT a + 1 AS n FROM self WHERE a > 0")))
    assert _kinds(arena) == ["Scan", "Filter", "Select"]


def test_a_plan_without_sql_stays_as_it_is() -> None:
    arena = Arena.of(T.filter(pl.col("a") > 1))
    before = arena.encode()
    assert expand_sql(arena).encode() == before


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a FROM t WHERE a NOT IN (SELECT u.a FROM u WHERE u.a > t.a)",
        "SELECT a, (SELECT SUM(u.a) FROM u WHERE u.a > t.a) AS s FROM t",
        "SELECT x.k FROM (SELECT a, b FROM t) AS x(k)",
        "SELECT 1 AS one",
        "SELECT b FROM t WHERE b = 'a\\b'",
        "WITH t AS (SELECT a FROM u) SELECT a FROM t",
    ],
)
def test_what_is_not_surely_understood_is_left_alone(sql: str) -> None:
    with pytest.raises((Unclear, pl.exceptions.PolarsError)):
        build_sql(sql, _stand_ins())
    arena = _arena(sql)
    before = arena.encode()
    assert expand_sql(arena).encode() == before


def test_a_wrong_statement_is_left_for_polars_to_refuse() -> None:
    arena = expand_sql(_arena("SELECT nope FROM t"))
    assert "SQL" in _kinds(arena)
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        arena.lazy().collect_schema()


def _stand_ins() -> dict[str, pl.LazyFrame]:
    frames = {"t": T, "u": U}
    return {
        name: pl.scan_parquet(f"frazil-input:///{place}", schema=lf.collect_schema(), glob=False)
        for place, (name, lf) in enumerate(frames.items())
    }
