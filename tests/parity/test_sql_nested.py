"""SQL with queries inside of queries, set operations and extensions, in stages over tiny splits, against Polars."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from support.frames import Case, check

T = pl.DataFrame(
    {
        "id": range(21),
        "k": [n % 5 if n % 6 else None for n in range(21)],
        "x": [float(n * n % 17) if n % 8 else None for n in range(21)],
        "s": [f"s{n % 4}" if n % 9 else None for n in range(21)],
        "d": [dt.date(2024, 1, 1 + n % 9) for n in range(21)],
        "b": [n % 3 == 0 if n % 4 else None for n in range(21)],
    }
)
R = pl.DataFrame(
    {
        "k": [3, 1, None, 8, 1, 3, 0, None, 9],
        "v": ["a", "b", "c", "d", "e", "f", "a", "b", None],
        "id": [4, 2, 7, 7, 30, 1, 0, 4, 5],
        "s": ["s1", "s2", None, "s0", "s9", "s1", "s1", "s2", "s0"],
    }
)

ORDERED = (
    "SELECT id FROM t WHERE k IN (SELECT k FROM r WHERE v > 'a') ORDER BY id",
    "SELECT id FROM t WHERE x > 1 AND k IN (SELECT k FROM r) AND s LIKE 's%' ORDER BY id",
    "SELECT id FROM t WHERE k IN (SELECT k FROM r GROUP BY k HAVING COUNT(*) > 1) ORDER BY id",
    "SELECT id FROM t WHERE k = ANY(SELECT k FROM r) ORDER BY id",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM r) ORDER BY id",
    "SELECT id, k FROM t WHERE k NOT IN (SELECT k FROM r WHERE k > 1) ORDER BY id",
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM r WHERE v > 'zzz') ORDER BY id",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM r WHERE r.k = t.k AND r.v > 'b') AND x > 1 ORDER BY id",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM r WHERE r.k = t.k AND r.s = t.s) ORDER BY id",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = t.k) ORDER BY id",
    "SELECT id FROM t WHERE x > (SELECT AVG(x) FROM t) AND id < 18 ORDER BY id",
    "SELECT id FROM t WHERE x > (SELECT MAX(id) FROM r WHERE v > 'zzz') ORDER BY id",
    "SELECT id FROM t WHERE x > (SELECT id FROM r) ORDER BY id",
    "SELECT id, x - (SELECT AVG(x) FROM t) AS dx, (SELECT MAX(id) FROM r) AS m FROM t ORDER BY id",
    "SELECT t.id, r.v FROM t JOIN r ON t.id < r.id ORDER BY t.id, r.v",
    "SELECT t.id, r.v FROM t JOIN r ON t.k = r.k AND r.id > 2 AND t.x > 3 ORDER BY t.id, r.v",
    "SELECT t.id, r.v FROM t JOIN r ON t.k + 1 > r.k JOIN r AS q ON q.id = r.id AND q.k < t.k ORDER BY t.id, r.v, q.v",
    "SELECT DISTINCT ON (k) k, id FROM t ORDER BY k, id",
    "SELECT DISTINCT ON (k, s) k, s, id FROM t ORDER BY k, s, id DESC",
    "SELECT id, k, ROW_NUMBER() OVER (PARTITION BY k ORDER BY id) AS n FROM t QUALIFY n = 1 ORDER BY id",
    "SELECT id, k FROM t WHERE id > 3 QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY id DESC) <= 2 ORDER BY id LIMIT 7",
    "SELECT s, k, SUM(id) AS n FROM t GROUP BY ALL ORDER BY ALL DESC",
    "SELECT id % 3 AS g, COUNT(*) AS n FROM t GROUP BY ALL ORDER BY ALL",
    "SELECT * EXCLUDE (d) REPLACE (k + 1 AS k, UPPER(s) AS s) RENAME (b AS bb) FROM t WHERE id > 3 ORDER BY id",
    "SELECT id, SUM(x) OVER w AS c FROM t WINDOW w AS (PARTITION BY k) ORDER BY id",
    "SELECT id FROM t ORDER BY id FETCH FIRST 3 ROWS ONLY",
    "SELECT k, SUM(x) FILTER (WHERE id > 3) AS f, COUNT(*) FILTER (WHERE b) AS n FROM t GROUP BY k ORDER BY k",
    "SELECT k, QUANTILE_CONT(x, 0.3) AS q, MEDIAN(x) AS m FROM t GROUP BY k ORDER BY k",
    """WITH a AS (SELECT k, SUM(id) AS n FROM t GROUP BY k)
    SELECT a.k, c.n FROM a JOIN a AS c ON a.k = c.k WHERE a.n > (SELECT AVG(n) FROM a) ORDER BY a.k""",
    "SELECT k FROM t EXCEPT SELECT k FROM r ORDER BY k NULLS FIRST LIMIT 2",
    """SELECT id, (SELECT MAX(r.id) FROM r WHERE r.k = t.k) AS m, (SELECT COUNT(*) FROM r WHERE r.k = t.k) AS n
    FROM t ORDER BY id""",
    "SELECT id FROM t WHERE x > (SELECT AVG(r.id) * 1.2 FROM r WHERE t.k = r.k AND r.v > 'a') AND id < 18 ORDER BY id",
    "SELECT id FROM t WHERE (SELECT COUNT(*) FROM r WHERE r.k = t.k AND r.s = t.s) = 0 AND b ORDER BY id",
    "SELECT * FROM t WHERE x >= (SELECT MIN(p.x) FROM t AS p JOIN r ON p.k = r.k WHERE p.s = t.s) ORDER BY id",
    "SELECT id FROM t WHERE k = (SELECT MAX(k) FROM r WHERE id < 5) AND x BETWEEN 1 AND 9 ORDER BY id",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM r WHERE r.k = t.k AND r.id > t.id) ORDER BY id",
    "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = t.k AND r.id <> t.id AND r.v > 'a') ORDER BY id",
    "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM r, t AS q WHERE r.k = q.k AND q.id = t.id AND r.v > 'a') ORDER BY id",
    """SELECT id FROM t WHERE id > 2 AND (EXISTS (SELECT 1 FROM r WHERE r.k = t.k)
    OR NOT EXISTS (SELECT 1 FROM r WHERE r.s = t.s) OR x > 15) ORDER BY id""",
    "SELECT id FROM t WHERE x > 9 OR EXISTS (SELECT 1 FROM r WHERE r.k = t.k AND r.id < t.id) ORDER BY id",
    "SELECT k, SUM(x) AS v FROM t GROUP BY k HAVING SUM(x) > 1.5 * (SELECT AVG(id) FROM r) AND COUNT(*) > 1 ORDER BY k",
    """SELECT id FROM t WHERE EXISTS (SELECT 1 FROM r WHERE v > 'c') AND NOT EXISTS (SELECT 1 FROM r WHERE v = 'z')
    AND x > (SELECT MIN(id) FROM r) AND id < 19 ORDER BY id""",
    "SELECT id FROM t WHERE x > 9 OR k IN (SELECT k FROM r WHERE k > 1) ORDER BY id",
    "SELECT id FROM t WHERE x > 9 OR k NOT IN (SELECT k FROM r) ORDER BY id",
    "SELECT id FROM t WHERE x > 9 OR NOT (k IN (SELECT k FROM r WHERE v > 'zzz')) ORDER BY id",
    "SELECT id, k IN (SELECT k FROM r) AS m, s IN (SELECT s FROM r WHERE s > 's0') AS n FROM t ORDER BY id",
    "SELECT id FROM t WHERE s IN (SELECT s FROM r WHERE r.k = t.k) ORDER BY id",
    "SELECT t.id, r.v FROM t LEFT JOIN r ON t.k = r.k AND t.id < r.id ORDER BY t.id, r.v",
    "SELECT t.id, r.id AS rid FROM t RIGHT JOIN r ON t.k = r.k AND t.x > 3 ORDER BY rid, t.id",
    "SELECT CASE WHEN (SELECT COUNT(*) FROM r) > 3 THEN (SELECT MAX(id) FROM r) ELSE 0 END AS m FROM t ORDER BY m",
    "SELECT k, s, SUM(x) AS v, COUNT(*) AS n FROM t GROUP BY ROLLUP (k, s) ORDER BY k NULLS FIRST, s NULLS FIRST, v, n",
    "SELECT k, s, GROUPING(k) AS gk, GROUPING(k, s) AS g, MAX(x) AS v FROM t GROUP BY CUBE (k, s) ORDER BY g, k, s",
    "SELECT s, b, AVG(x) AS v FROM t GROUP BY GROUPING SETS ((s, b), (b), ()) ORDER BY s, b, v LIMIT 9",
    "SELECT SUM(x) AS v, COUNT(x) AS n FROM t WHERE s LIKE 'z%' GROUP BY ROLLUP (k) ORDER BY n",
    """SELECT k, s, RANK() OVER (PARTITION BY GROUPING(s), CASE WHEN GROUPING(s) = 0 THEN k END ORDER BY SUM(id) DESC) AS n
    FROM t GROUP BY ROLLUP (k, s) ORDER BY CASE WHEN GROUPING(s) = 0 THEN 1 ELSE 0 END, k, n, s""",
    """SELECT k, s, SUM(id) AS v, SUM(id) * 100.0 / SUM(SUM(id)) OVER (PARTITION BY k) AS share
    FROM t GROUP BY k, s ORDER BY k, s""",
    """SELECT k, id % 3 AS g, MAX(x) + k AS m, SUM(SUM(id)) OVER (
    PARTITION BY k ORDER BY id % 3 ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS running
    FROM t GROUP BY k, id % 3 ORDER BY k, g""",
    """SELECT s, RANK() OVER (ORDER BY s) AS n, SUM(COUNT(*)) OVER () AS every FROM t GROUP BY s
    HAVING COUNT(*) > 1 ORDER BY s""",
    "SELECT p.k AS pk, q.k AS qk, COUNT(*) AS n FROM t AS p JOIN t AS q ON p.s = q.s GROUP BY p.k, q.k ORDER BY pk, qk",
    "WITH w AS (SELECT k, id FROM t) SELECT p.id, q.id AS next FROM w AS p JOIN w AS q ON p.id = q.id - 1 ORDER BY p.id",
    "SELECT SUM(x) - (SELECT AVG(x) FROM t) AS d FROM t",
    "SELECT COUNT(*) AS n, SUM(x) / (SELECT SUM(id) FROM r) AS q, (SELECT MIN(id) FROM r WHERE id > 99) AS m FROM t WHERE b",
    "SELECT SUM(x - (SELECT AVG(x) FROM t)) AS d FROM t",
    "SELECT SUM(x) - (SELECT id FROM r) AS d FROM t",
    "SELECT k, SUM(x) / (SELECT SUM(x) FROM t) AS share, (SELECT MAX(id) FROM r) AS m FROM t GROUP BY k ORDER BY k",
    "SELECT id, SUM(x) OVER (w ORDER BY id) AS c, COUNT(*) OVER w AS n FROM t WINDOW w AS (PARTITION BY k) ORDER BY id",
    "SELECT id, (SELECT v FROM r WHERE r.id = t.id AND r.k <> 3) AS v FROM t WHERE id <> 4 AND id <> 7 ORDER BY id",
    "SELECT id, (SELECT v FROM r WHERE r.k = t.k) AS v FROM t ORDER BY id",
    "SELECT t.id, r.id AS rid FROM t RIGHT JOIN r ON t.id < r.id AND t.k > r.k ORDER BY t.id, rid",
)
UNORDERED = (
    "SELECT k FROM t EXCEPT SELECT k FROM r",
    "SELECT k, s FROM t EXCEPT SELECT k, s FROM r",
    "SELECT k, s FROM t EXCEPT ALL SELECT k, s FROM r",
    "SELECT k FROM t INTERSECT SELECT k FROM r",
    "SELECT k AS z FROM t INTERSECT ALL SELECT k FROM r",
    "SELECT k, s FROM t UNION BY NAME SELECT s, k FROM r",
    "SELECT k, id FROM t UNION ALL BY NAME SELECT v, k FROM r",
    "SELECT SUM(id) FILTER (WHERE k > 1) AS a, COUNT(*) FILTER (WHERE s = 's1') AS b, AVG(x) AS c FROM t",
    "SELECT DISTINCT ON (b) b FROM t",
    "SELECT k, SUM(x) AS v FROM t GROUP BY ROLLUP (k) HAVING SUM(id) > 1",
    "SELECT k, s, SUM(x) AS v FROM t GROUP BY CUBE (k, s) HAVING COUNT(*) > 1 AND SUM(x) > 3",
    "SELECT t.id, r.id AS rid FROM t LEFT JOIN r ON t.id < r.id",
)
WHOLE = (
    "SELECT id FROM t WHERE k NOT IN (SELECT k FROM r WHERE r.id = t.id)",
    "SELECT id, (SELECT MAX(r.id) FROM r WHERE r.k < t.k) AS m FROM t",
    "SELECT id, (SELECT COUNT(*) + 1 FROM r WHERE r.k = t.k) AS m FROM t",
    "SELECT id FROM t WHERE x > ALL(SELECT id FROM r)",
)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pl.LazyFrame]:
    folder = tmp_path_factory.mktemp("sql")
    T.write_parquet(folder / "t.parquet", row_group_size=5)
    R.write_parquet(folder / "r.parquet", row_group_size=4)
    return {"t": pl.scan_parquet(folder / "t.parquet"), "r": pl.scan_parquet(folder / "r.parquet")}


def _cases() -> list[tuple[str, bool, bool, bool]]:
    cases = [
        *((sql, True, False) for sql in ORDERED),
        *((sql, False, False) for sql in UNORDERED),
        *((sql, False, True) for sql in WHOLE),
    ]
    ways = [(False, True) if "JOIN" in sql or sql.count("SELECT") > 1 else (False,) for sql, _, _ in cases]
    return [(*case, broadcast) for case, both in zip(cases, ways, strict=True) for broadcast in both]


@pytest.mark.parametrize(("sql", "ordered", "fallback", "broadcast"), _cases())
def test_answer_equals_polars(
    sql: str, ordered: bool, fallback: bool, broadcast: bool, tables: Mapping[str, pl.LazyFrame], tmp_path: Path
) -> None:
    try:
        pl.SQLContext(tables).execute(sql).collect_schema()
    except pl.exceptions.PolarsError:
        pytest.fail("not a statement that polars accepts")
    case = Case(lambda found: pl.SQLContext(found).execute(sql), ordered=ordered, fallback=fallback)
    check(case, tables, tmp_path, broadcast=broadcast)
