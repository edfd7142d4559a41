"""PDS-H queries as SQL text, over tiny generated tables cut into many tasks."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import frazil
from support.parity import assert_same
from support.profiles import fallbacks, most_tasks, stages_of

QUERIES = {
    1: """
        SELECT l_returnflag, l_linestatus, SUM(l_quantity) AS sum_qty, SUM(l_extendedprice) AS sum_base_price,
               SUM(l_extendedprice * (1 - l_discount)) AS sum_disc_price,
               SUM(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge,
               AVG(l_quantity) AS avg_qty, AVG(l_extendedprice) AS avg_price, AVG(l_discount) AS avg_disc,
               COUNT(*) AS count_order
        FROM lineitem WHERE l_shipdate <= '1998-09-02'
        GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus""",
    3: """
        SELECT l_orderkey, SUM(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate, o_shippriority
        FROM customer, orders, lineitem
        WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
          AND o_orderdate < '1997-03-15' AND l_shipdate > '1995-03-15'
        GROUP BY l_orderkey, o_orderdate, o_shippriority ORDER BY revenue DESC, o_orderdate LIMIT 10""",
    5: """
        SELECT n_name, SUM(l_extendedprice * (1 - l_discount)) AS revenue
        FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey
             JOIN supplier ON l_suppkey = s_suppkey AND c_nationkey = s_nationkey
             JOIN nation ON s_nationkey = n_nationkey JOIN region ON n_regionkey = r_regionkey
        WHERE r_name = 'ASIA' AND o_orderdate >= DATE '1994-01-01' AND o_orderdate < DATE '1998-01-01'
        GROUP BY n_name ORDER BY revenue DESC""",
    6: """
        SELECT SUM(l_extendedprice * l_discount) AS revenue FROM lineitem
        WHERE l_shipdate >= '1994-01-01' AND l_shipdate < '1997-01-01'
          AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24""",
    12: """
        SELECT l_shipmode,
               SUM(CASE WHEN o_orderpriority IN ('1-URGENT', '2-HIGH') THEN 1 ELSE 0 END) AS high_line_count,
               SUM(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 END)
                   AS low_line_count
        FROM orders JOIN lineitem ON o_orderkey = l_orderkey
        WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate AND l_shipdate < l_commitdate
        GROUP BY l_shipmode ORDER BY l_shipmode""",
    14: """
        SELECT ROUND(100.0 * SUM(CASE WHEN p_type LIKE 'PROMO%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END)
               / SUM(l_extendedprice * (1 - l_discount)), 2) AS promo_revenue
        FROM lineitem JOIN part ON l_partkey = p_partkey WHERE l_shipdate >= '1995-09-01'""",
}


def _generated() -> dict[str, pl.DataFrame]:
    draw = random.Random(7)

    def day() -> dt.date:
        return dt.date(1994, 1, 1) + dt.timedelta(days=draw.randrange(1800))

    lines = [
        {
            "l_orderkey": draw.randrange(40), "l_partkey": draw.randrange(12), "l_suppkey": draw.randrange(6),
            "l_quantity": float(draw.randrange(1, 50)), "l_extendedprice": draw.randrange(100, 90000) / 100,
            "l_discount": draw.randrange(11) / 100, "l_tax": draw.randrange(9) / 100, "l_returnflag": draw.choice("ANR"),
            "l_linestatus": draw.choice("OF"), "l_shipdate": day(), "l_commitdate": day(), "l_receiptdate": day(),
            "l_shipmode": draw.choice(["MAIL", "SHIP", "AIR"]),
        }
        for _ in range(200)
    ]  # fmt: skip
    orders = [
        {
            "o_orderkey": key, "o_custkey": draw.randrange(15), "o_orderdate": day(), "o_shippriority": 0,
            "o_orderpriority": draw.choice(["1-URGENT", "2-HIGH", "3-MEDIUM"]),
        }
        for key in range(40)
    ]  # fmt: skip
    customers = [
        {"c_custkey": key, "c_mktsegment": draw.choice(["BUILDING", "MACHINERY"]), "c_nationkey": key % 4}
        for key in range(15)
    ]
    return {
        "lineitem": pl.DataFrame(lines),
        "orders": pl.DataFrame(orders),
        "customer": pl.DataFrame(customers),
        "supplier": pl.DataFrame({"s_suppkey": range(6), "s_nationkey": [n % 4 for n in range(6)]}),
        "nation": pl.DataFrame({"n_nationkey": range(4), "n_regionkey": [0, 1, 0, 0], "n_name": ["IN", "FR", "JP", "CN"]}),
        "region": pl.DataFrame({"r_regionkey": [0, 1], "r_name": ["ASIA", "EUROPE"]}),
        "part": pl.DataFrame({"p_partkey": range(12), "p_type": ["PROMO A", "SMALL B", "PROMO C"] * 4}),
    }


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.LazyFrame]:
    folder: Path = tmp_path_factory.mktemp("sql")
    frames = _generated()
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet", row_group_size=50)
    return {name: pl.scan_parquet(folder / f"{name}.parquet") for name in frames}


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(max_functions=2, settings=frazil.Settings(start_small=False, max_rows_per_split=60)) as local:
        yield local


@pytest.mark.parametrize("number", QUERIES)
def test_a_pdsh_query_as_sql_is_distributed(number: int, tables: dict[str, pl.LazyFrame], engine: frazil.Engine) -> None:
    query = pl.SQLContext(tables).execute(QUERIES[number])
    expected = query.collect()
    assert expected.height > 0
    assert_same(query.collect(engine=engine), expected, ordered=True)
    stages = stages_of(engine)
    assert most_tasks(stages) > 1
    assert not fallbacks(stages)
