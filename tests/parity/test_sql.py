"""SQL statements, over tiny splits, against polars' own answers on the same data; and the expansion without the engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frazil
from frazil_coordinator.plan.sql import expand_sql
from frazil_functions.arena import Arena
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of

DISTRIBUTED = [
    "SELECT t.a, z FROM t JOIN (VALUES (1, 'one'), (2, NULL)) AS n (q, z) ON t.a = n.q",
    "SELECT b, SUM(CASE WHEN a > q THEN g END) AS s FROM t, (VALUES (1), (2)) AS n (q) GROUP BY b",
    "WITH n (q, z) AS (VALUES (1, 2), (3, 4)) SELECT t.a, n.z FROM t LEFT JOIN n ON t.a = n.q",
    "WITH n (q, z) AS (SELECT a, b FROM t) SELECT q, COUNT(*) AS c FROM n GROUP BY q",
    "SELECT q FROM (SELECT a, b FROM t) AS n (q, z) WHERE z > 'a'",
    "SELECT COLUMNS('^(a|b)$'), g + 1 AS h FROM t WHERE g > 1",
    "SELECT a, b, SUM(g) AS s FROM t GROUP BY ROLLUP (a, b) HAVING SUM(g) > 1 AND b IS NOT NULL",
    "SELECT b, COUNT(*) AS n FROM t GROUP BY GROUPING SETS ((b), ()) HAVING n > 2",
    "SELECT a, g AS z FROM t WHERE g > 1",
    "SELECT * FROM t",
    "SELECT * EXCLUDE (g) FROM t",
    "SELECT *, a + 1 AS n FROM t WHERE b IS NOT NULL",
    "SELECT t.* FROM t WHERE t.a BETWEEN 2 AND 5",
    "SELECT a FROM t WHERE b IN ('x', 'y') OR a = 1",
    "SELECT a FROM t WHERE a NOT IN (1, 2, 3)",
    "SELECT a FROM t WHERE b LIKE 'x%'",
    "SELECT a, CASE WHEN a > 4 THEN 'many' ELSE 'few' END AS size FROM t",
    "SELECT CAST(a AS DOUBLE) AS f, a::VARCHAR AS s FROM t",
    "SELECT a / 2 AS half, a % 2 AS odd, a * 1.5 AS more FROM t",
    "SELECT UPPER(b) AS u, LENGTH(b) AS n, COALESCE(b, '-') AS c FROM t",
    "SELECT 1 AS one, a FROM t",
    "SELECT k FROM d WHERE d < '2024-01-05'",
    "SELECT k FROM d WHERE d >= DATE '2024-01-03' AND d < DATE '2024-01-08'",
    "SELECT k FROM d WHERE d >= DATE '2024-01-03' + INTERVAL '1 day' AND k > 0.5",
    "SELECT SUBSTR(b, 2, 1) AS x, REPLACE(b, 'x', 'it''s') AS y, ROUND(g, 1) AS r FROM t WHERE b <> 'o''k'",
    "SELECT EXTRACT(YEAR FROM d) AS y, COUNT(*) AS n FROM d GROUP BY EXTRACT(YEAR FROM d) ORDER BY y",
    "SELECT a, b FROM t ORDER BY a, b",
    "SELECT a, b FROM t ORDER BY a DESC, b DESC, g",
    "SELECT a, b FROM t ORDER BY a DESC NULLS LAST, b ASC NULLS FIRST",
    "SELECT a AS x FROM t ORDER BY b, x",
    "SELECT b, a FROM t ORDER BY 2, 1",
    "SELECT b, -a AS m FROM t ORDER BY m, b",
    "SELECT b, a FROM t ORDER BY a + 1 DESC, b LIMIT 5",
    "SELECT a, b FROM t ORDER BY a, b LIMIT 4 OFFSET 3",
    "SELECT DISTINCT a FROM t ORDER BY a",
    "SELECT DISTINCT a, b FROM t",
    "SELECT DISTINCT b FROM t ORDER BY b LIMIT 1",
    "SELECT SUM(a) AS s, MIN(g) AS lo, MAX(g) AS hi, COUNT(*) AS n, COUNT(b) AS m, AVG(a) AS mean FROM t",
    "SELECT SUM(a) / COUNT(*) AS r, SUM(a) + 1 AS s FROM t",
    "SELECT SUM(a) AS s FROM t WHERE ABS(a) > 100",
    "SELECT SUM(CASE WHEN b = 'x' THEN a ELSE 0 END) / SUM(a) AS share FROM t",
    "SELECT b, SUM(a) AS s FROM t GROUP BY b",
    "SELECT b, SUM(a) AS s FROM t GROUP BY b ORDER BY s DESC, b LIMIT 2",
    "SELECT b, SUM(a) FROM t GROUP BY b ORDER BY SUM(a), b",
    "SELECT b, COUNT(DISTINCT a) AS n FROM t GROUP BY b",
    "SELECT b, MEDIAN(a) AS n FROM t GROUP BY b",
    "SELECT b, COUNT(*) AS n, SUM(a) / COUNT(*) AS r FROM t GROUP BY b HAVING COUNT(*) > 1 AND SUM(a) > 2 ORDER BY b",
    "SELECT b, SUM(a) AS s FROM t GROUP BY b HAVING s > 5",
    "SELECT a + 1 AS k, COUNT(*) AS n FROM t GROUP BY k",
    "SELECT a % 3, COUNT(*) AS n FROM t GROUP BY 1 ORDER BY 1",
    "SELECT b, MAX(a) + 1 AS m FROM t GROUP BY b ORDER BY MAX(a) DESC, b",
    "SELECT b AS name, a + 1 AS a, COUNT(*) AS c FROM t GROUP BY a, b",
    "SELECT COUNT(*) AS n FROM t GROUP BY b",
    "SELECT t.a, w FROM t JOIN v ON t.a = v.a",
    "SELECT t.a, v.w FROM t INNER JOIN v ON v.a = t.a WHERE v.w = 'x' ORDER BY t.a",
    "SELECT * FROM t LEFT JOIN v ON t.a = v.a",
    "SELECT * FROM t RIGHT JOIN v ON t.a = v.a",
    "SELECT * FROM t FULL JOIN v ON t.a = v.a",
    "SELECT * FROM t JOIN v USING (a)",
    "SELECT v.a, w, b FROM t LEFT JOIN v ON t.a = v.a",
    "SELECT v.a, t.a FROM t JOIN v ON t.a = v.a",
    "SELECT * FROM t NATURAL JOIN v",
    "SELECT t.a, v.w FROM t NATURAL LEFT JOIN v WHERE g > 0",
    "SELECT t.a, v.w FROM t LEFT JOIN v ON t.a = v.a AND v.w > 'x' AND t.g < 2",
    "SELECT t.b, u.c FROM t FULL JOIN u ON t.b = u.b AND t.a > u.a",
    "SELECT * FROM t SEMI JOIN v ON t.a = v.a",
    "SELECT * FROM t ANTI JOIN v ON t.a = v.a",
    "SELECT t.a, w FROM t CROSS JOIN v",
    "SELECT t.a, t.b, u.c FROM t LEFT JOIN u ON t.a = u.a AND t.b = u.b",
    "SELECT x.a, y.b FROM t AS x JOIN t AS y ON x.a = y.a",
    "SELECT t.a, v.w, u.c FROM t JOIN v ON t.a = v.a JOIN u ON u.b = v.w",
    "SELECT t.a, w FROM t, v WHERE t.a = v.a AND t.g > 1",
    "SELECT * FROM t, v WHERE t.a = v.a",
    "SELECT v.w, SUM(t.a) AS s FROM t JOIN v ON t.a = v.a GROUP BY v.w ORDER BY s DESC",
    "WITH q AS (SELECT a, b FROM t WHERE a > 1) SELECT q.b, COUNT(*) AS n FROM q GROUP BY q.b",
    "WITH q AS (SELECT a FROM t), r AS (SELECT a FROM q WHERE a > 3) SELECT SUM(a) AS s FROM r",
    "SELECT s.a FROM (SELECT a, g FROM t WHERE a > 2) AS s WHERE s.g > 1",
    "SELECT a FROM t UNION ALL SELECT a FROM u",
    "SELECT COUNT(*) AS c, SUM(a) AS s FROM t ORDER BY c, SUM(a) LIMIT 3",
    "SELECT t.b, SUM(v.a) AS s FROM t, v WHERE t.a = v.a AND (v.w = 'x' OR t.b = 'y') AND t.g >= 0 GROUP BY t.b",
    "SELECT t.a FROM t LEFT JOIN v ON t.a = v.a WHERE CASE WHEN v.a > 1 THEN COALESCE(v.a, 0) ELSE t.a END > 0",
    "SELECT a FROM t UNION SELECT a FROM u ORDER BY a",
    "SELECT a, ROW_NUMBER() OVER (PARTITION BY a ORDER BY g, b) AS r FROM t",
    "SELECT a, SUM(a) OVER (PARTITION BY b) AS s FROM t",
]  # fmt: skip

FALLBACK = [
    "SELECT a FROM t WHERE a > ALL(SELECT a FROM v WHERE a IS NOT NULL)",
]

WRONG = [
    "SELECT nope FROM t",
    "SELECT a FROM nowhere",
    "SELECT a FROM t WHERE",
    "SELECT a, COUNT(*) FROM t GROUP BY b",
    "SELECT b + 1 AS n FROM t ORDER BY 7",
    "SELECT NOFUNCTION(a) FROM t",
    "SELECT a FROM t JOIN v ON t.a = v.nope",
]


def _frames() -> dict[str, pl.DataFrame]:
    rows = range(23)
    return {
        "t": pl.DataFrame(
            {
                "a": [n * n % 9 if n % 8 else None for n in rows],
                "b": [("x", "y", "xz", None)[n % 4] for n in rows],
                "g": [float("nan") if n % 7 == 0 else n % 5 * 0.5 for n in rows],
            },
            schema={"a": pl.Int64, "b": pl.String, "g": pl.Float64},
        ),
        "u": pl.DataFrame({"a": [0, 1, 4, None], "c": ["p", "q", None, "r"], "b": ["x", "y", "x", None]}),
        "v": pl.DataFrame({"a": [0, 1, 1, 7, None, 50], "w": ["x", "y", None, "x", "x", "z"]}),
        "d": pl.DataFrame({"d": [dt.date(2024, 1, 1) + dt.timedelta(days=90 * (n % 6)) for n in rows], "k": rows}),
    }


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.LazyFrame]:
    folder: Path = tmp_path_factory.mktemp("sql")
    for name, frame in _frames().items():
        frame.write_parquet(folder / f"{name}.parquet", row_group_size=5)
    return {name: pl.scan_parquet(folder / f"{name}.parquet") for name in _frames()}


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(max_functions=2, settings=frazil.Settings(start_small=False, max_rows_per_split=4)) as local:
        yield local


def _check(query: pl.LazyFrame, engine: frazil.Engine, *, ordered: bool) -> list[dict[str, Any]]:
    assert_same(query.collect(engine=engine), query.collect(), ordered=ordered)
    return stages_of(engine)


@pytest.mark.parametrize("sql", DISTRIBUTED)
def test_a_statement_is_distributed(sql: str, tables: dict[str, pl.LazyFrame], engine: frazil.Engine) -> None:
    stages = _check(pl.SQLContext(tables).execute(sql), engine, ordered=False)
    assert most_tasks(stages) > 1
    assert fallbacks(stages) == []


@pytest.mark.parametrize("sql", [sql for sql in DISTRIBUTED if "ORDER BY" in sql and "OVER" not in sql])
def test_order_by_decides_the_order(sql: str, tables: dict[str, pl.LazyFrame], engine: frazil.Engine) -> None:
    _check(pl.SQLContext(tables).execute(sql), engine, ordered=True)


@pytest.mark.parametrize("sql", FALLBACK)
def test_a_statement_that_is_not_understood_runs_in_one_task(
    sql: str, tables: dict[str, pl.LazyFrame], engine: frazil.Engine
) -> None:
    stages = _check(pl.SQLContext(tables).execute(sql), engine, ordered=False)
    assert any("SQL" in reason for reason in fallbacks(stages))


@pytest.mark.parametrize("sql", WRONG)
def test_a_wrong_statement_raises_what_polars_raises(
    sql: str, tables: dict[str, pl.LazyFrame], engine: frazil.Engine
) -> None:
    def error(run: object) -> type[BaseException] | None:
        try:
            query = pl.SQLContext(tables).execute(sql)
            query.collect(engine=engine) if run is engine else query.collect()
        except pl.exceptions.PolarsError as found:
            return type(found)
        return None

    expected = error(None)
    assert expected is not None
    assert error(engine) is expected


def test_a_statement_over_a_query_and_a_query_over_a_statement(
    tables: dict[str, pl.LazyFrame], engine: frazil.Engine
) -> None:
    inner = tables["t"].filter(pl.col("a") > 1).sql("SELECT b, a FROM self WHERE b <> 'y'")
    query = inner.join(tables["v"], on="a").sql("SELECT w, SUM(a) AS s FROM self GROUP BY w").with_columns(z=pl.col("s") * 2)
    assert not fallbacks(_check(query, engine, ordered=False))


# Without the engine: generated statements.

_NUMBER = st.sampled_from(
    ["a", "t.a", "a + 1", "a / 2", "a % 3", "g", "ABS(a)", "CASE WHEN b = 'x' THEN a ELSE 0 END", "-g"]
)
_CONDITION = st.sampled_from(
    ["a > 1", "g > 1", "b IS NULL", "b IN ('x', 'y')", "a BETWEEN 1 AND 4", "NOT a = 1", "b LIKE 'x%'", "a IN (1, NULL)"]
)
_QUERY = st.sampled_from(
    [
        "EXISTS (SELECT 1 FROM w WHERE w.k = t.a)",
        "NOT EXISTS (SELECT 1 FROM w WHERE w.k = t.a AND w.w > 'x')",
        "EXISTS (SELECT 1 FROM w WHERE w.w = t.b AND w.k > t.a)",
        "t.a IN (SELECT k FROM w WHERE w.w <> 'z')",
        "t.a NOT IN (SELECT k FROM w WHERE k > 0)",
        "g > (SELECT AVG(k) / 9 FROM w)",
        "t.a >= (SELECT MIN(w.k) FROM w WHERE w.w = t.b)",
    ]
)
_LEVEL = st.sampled_from(["ROLLUP (b, a)", "CUBE (a, b)", "GROUPING SETS ((b), (a, b), ())", "a, ROLLUP (b)", "b, a"])
_AGGREGATE = st.sampled_from(["SUM", "MIN", "MAX", "AVG", "COUNT", "STDDEV"])
_KEY = st.sampled_from(["b", "a", "t.b", "a % 2", "UPPER(b)"])
_SOURCE = st.sampled_from(
    ["t", "t", "e AS t", "(SELECT * FROM t WHERE a > 0) AS t", "t JOIN v ON t.a = v.k", "t LEFT JOIN v ON v.k = t.a"]
)


@st.composite
def _statements(draw: st.DrawFn) -> str:
    conditions = draw(st.lists(_CONDITION, max_size=2)) + draw(st.lists(_QUERY, max_size=1))
    body = f"FROM {draw(_SOURCE)}"
    if conditions:
        body += " WHERE " + draw(st.sampled_from([" AND ", " OR "])).join(conditions)
    direction = draw(st.sampled_from(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"]))
    if draw(st.booleans()):
        key, value = draw(_KEY), draw(_NUMBER)
        items = f"{draw(_AGGREGATE)}({value}) AS m, {draw(_AGGREGATE)}({value}) + COUNT(*) AS n"
        having = draw(
            st.sampled_from(
                [
                    "",
                    " HAVING COUNT(*) > 1",
                    " HAVING m > 2",
                    f" HAVING {key} IS NULL OR n > 2",
                    f" HAVING COUNT(*) > 1 AND {key} IS NOT NULL",
                ]
            )
        )
        order = draw(st.sampled_from(["", f" ORDER BY k{direction}", " ORDER BY 2, 1", " ORDER BY COUNT(*), 1, 2"]))
        if draw(st.booleans()):
            return f"SELECT {key} AS k, {items} {body} GROUP BY {draw(st.sampled_from(['1', key]))}{having}{order}"
        level, over = draw(_LEVEL), draw(st.sampled_from(["b", "a"]))
        late = f"SUM(COUNT(*)) OVER (PARTITION BY {over}) AS o, RANK() OVER (PARTITION BY {over} ORDER BY COUNT(*)) AS r"
        return f"SELECT a, b, {items}, {late} {body} GROUP BY {level}"
    if draw(st.booleans()):
        return f"SELECT {draw(_AGGREGATE)}({draw(_NUMBER)}) AS m, COUNT(*) AS n {body}"
    distinct = draw(st.sampled_from(["", "DISTINCT "]))
    order = draw(
        st.sampled_from(["", f" ORDER BY y{direction}, x", f" ORDER BY 1{direction}, 2", " ORDER BY x, y DESC LIMIT 3"])
    )
    return f"SELECT {distinct}{draw(_NUMBER)} AS x, {draw(_NUMBER)} AS y {body}{order}"


def _generated_tables() -> dict[str, pl.LazyFrame]:
    frames = _frames()
    others = frames["v"].rename({"a": "k"})
    tables = {"t": frames["t"], "e": frames["t"].clear(), "v": others, "w": others}
    return {name: frame.lazy() for name, frame in tables.items()}


def _expanded(sql: str, tables: Mapping[str, pl.LazyFrame]) -> tuple[pl.LazyFrame, bool]:
    arena = expand_sql(Arena.of(pl.SQLContext(tables).execute(sql)))
    return arena.lazy(), all(arena.kind(number) != "SQL" for number in arena.reachable())


@settings(
    max_examples=250, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip
@given(sql=_statements())
def test_generated_statements_expand_to_what_gives_the_same(sql: str) -> None:
    tables = _generated_tables()
    actual, replaced = _expanded(sql, tables)
    assert replaced or ("WHERE" in sql and "(SELECT" in sql), sql  # some orders of conditions are not known with queries
    assert_same(actual.collect(), pl.SQLContext(tables).execute(sql).collect(), ordered=False)
