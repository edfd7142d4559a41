"""SQL as people write it over columns of every kind, in stages over tiny splits, against Polars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from support.frames import Case, check

ROWS = 23
T = pl.DataFrame(
    {
        "id": range(ROWS),
        "k": [n % 4 if n % 7 else None for n in range(ROWS)],
        "x": [float(n * n % 11) if n % 5 else None for n in range(ROWS)],
        "s": [f"s{n % 3}" if n % 6 else None for n in range(ROWS)],
        "b": [n % 3 == 0 if n % 4 else None for n in range(ROWS)],
        "ts": [dt.datetime(2024, 3, 30, 20, tzinfo=dt.UTC) + dt.timedelta(minutes=47 * n) for n in range(ROWS)],
        "l": [None if n % 5 == 1 else [n % 3, None][: n % 3] for n in range(ROWS)],
    }
).with_columns(pl.col("ts").dt.replace_time_zone(None))
T = T.with_columns(
    d=pl.col("ts").dt.date(),
    ms=pl.col("ts").cast(pl.Datetime("ms")),
    z=pl.col("ts").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Zurich"),
    tm=pl.col("ts").dt.time(),
    i8=pl.col("k").cast(pl.Int8),
    st=pl.when(pl.col("id") % 6 > 0).then(pl.struct("k", "s")),
)

ORDERED = (
    # Times.
    "SELECT date_trunc('day', ts) AS day, SUM(x) AS v FROM t GROUP BY day ORDER BY day",
    "SELECT DATE_TRUNC('month', d) AS m, COUNT(*) AS n FROM t GROUP BY DATE_TRUNC('month', d) ORDER BY m",
    """SELECT id, date_trunc('quarter', z) AS q, date_trunc('week', d) AS w, date_trunc('hour', ms) AS h,
    date_trunc('day', date_trunc('hour', ts) + INTERVAL '5 hours') AS e FROM t ORDER BY id""",
    "SELECT id FROM t WHERE ts >= '2024-03-31' AND ts < '2024-03-31 10:30:00' ORDER BY id",
    "SELECT id FROM t WHERE z BETWEEN '2024-03-31' AND '2024-03-31T05:00:00' OR ms = '2024-03-30 20:00:00' ORDER BY id",
    "SELECT id FROM t WHERE tm > '12:00:00' AND ts <> '2024-03-30 22:21:00.000001' ORDER BY id",
    "SELECT id FROM t WHERE date_trunc('day', ts) = '2024-03-31' ORDER BY id",
    "SELECT CASE WHEN ts < '2024-03-31' THEN 'old' ELSE 'new' END AS age, COUNT(*) AS n FROM t GROUP BY 1 ORDER BY 1",
    # Conditions of groups.
    "SELECT k, SUM(x) AS v FROM t GROUP BY k HAVING SUM(x) > 9 OR k IS NULL ORDER BY k",
    "SELECT k, s, COUNT(*) AS n FROM t GROUP BY k, s HAVING MAX(id) > 5 AND s IS NOT NULL ORDER BY k, s",
    "SELECT k, COUNT(*) AS n FROM t GROUP BY k HAVING k > 0 AND n > 1 ORDER BY n DESC, k",
    "SELECT UPPER(s) AS u, SUM(x) AS v FROM t GROUP BY UPPER(s) HAVING UPPER(s) > 'S0' AND COUNT(*) > 1 ORDER BY u",
    "SELECT k, COUNT(*) AS n FROM t GROUP BY k HAVING k IN (1, 2) ORDER BY k",
    "SELECT s AS q, SUM(x) + COUNT(*) AS n FROM t GROUP BY 1 HAVING q IS NULL OR n > 2 ORDER BY 1",
    # Lists and texts of groups.
    "SELECT k, ARRAY_AGG(x ORDER BY id DESC) AS a, COUNT(*) AS n FROM t GROUP BY k ORDER BY k",
    "SELECT k, ARRAY_AGG(s ORDER BY id LIMIT 2) AS a FROM t GROUP BY k ORDER BY k",
    "SELECT k, STRING_AGG(s, '|' ORDER BY id DESC) AS a FROM t GROUP BY k ORDER BY k",
    "SELECT k, ARRAY_AGG(id) AS a FROM t GROUP BY k ORDER BY k",
    # Fields of structs, items of lists.
    "SELECT id, st.k AS sk, t.st.s FROM t ORDER BY id",
    "SELECT st.k AS sk, MAX(st.s) AS m FROM t WHERE st.k > 0 GROUP BY st.k ORDER BY sk",
    "SELECT id, UNNEST(l) AS u FROM t WHERE id > 2 ORDER BY id, u",
    # Conditions without columns.
    "SELECT id FROM t WHERE 1 = 1 AND k = 1 ORDER BY id",
    "SELECT id FROM t WHERE 1 = 0 ORDER BY id",
    "SELECT COUNT(*) AS n FROM t WHERE TRUE",
    "SELECT k, COUNT(*) AS n FROM t WHERE FALSE OR k > 1 GROUP BY k ORDER BY k",
)
UNORDERED = (
    "SELECT k AS a, s FROM t UNION ALL SELECT id AS b, s FROM t WHERE b",
    "SELECT id AS a FROM t WHERE id < 9 UNION SELECT k FROM t ORDER BY a LIMIT 5",
    "SELECT k, x FROM t UNION ALL SELECT i8, id FROM t",
    "SELECT k, s, SUM(x) AS v FROM t GROUP BY k, s UNION ALL SELECT k, NULL AS s, SUM(x) AS v FROM t GROUP BY k",
    "SELECT ts FROM t UNION ALL SELECT d FROM t UNION SELECT ms FROM t",
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pl.LazyFrame]:
    folder = tmp_path_factory.mktemp("sql")
    T.write_parquet(folder / "t.parquet", row_group_size=5)
    return {"t": pl.scan_parquet(folder / "t.parquet")}


@pytest.mark.parametrize("rows", ["every row", "no rows"])
@pytest.mark.parametrize("sql", [*ORDERED, *UNORDERED])
def test_answer_equals_polars_in_many_tasks(sql: str, rows: str, tables: Mapping[str, pl.LazyFrame], tmp_path: Path) -> None:
    if rows == "no rows":
        tables = {name: lf.filter(pl.col("id") * 2 < 0) for name, lf in tables.items()}
    pl.SQLContext(tables).execute(sql).collect_schema()  # a statement that polars accepts
    check(Case(lambda found: pl.SQLContext(found).execute(sql), ordered=sql in ORDERED), tables, tmp_path, broadcast=False)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM t WHERE ts <> '2024-13-31'",
        "SELECT id FROM t WHERE z > '2024-03-31 02:30:00'",  # there was no such time
        "SELECT id, (SELECT q.id FROM t AS q WHERE q.k = t.k) AS v FROM t",
        "SELECT id, k FROM t UNION SELECT id FROM t",
        "SELECT id FROM t UNION SELECT l FROM t",
    ],
)
def test_what_polars_refuses_raises_its_class(sql: str, tables: Mapping[str, pl.LazyFrame], tmp_path: Path) -> None:
    query = pl.SQLContext(tables).execute(sql)
    with pytest.raises(pl.exceptions.PolarsError):
        query.collect()
    check(Case(lambda found: pl.SQLContext(found).execute(sql)), tables, tmp_path, broadcast=False)
