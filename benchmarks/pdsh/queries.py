"""The 22 queries of PDS-H by number, and the order in which each must come.

PDS-H is derived from TPC-H: the same data and questions, written as Polars queries; its results are not comparable with
published TPC-H results. The queries use what distributes (joins, semi- and anti-joins for EXISTS and IN, aggregates
without keys brought in by a cross join for scalar sub-queries) and no Python functions.

The next module is :mod:`benchmarks.pdsh.compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import polars as pl

from benchmarks.pdsh import q01_08, q09_15, q16_22
from benchmarks.pdsh.tables import Tables

__all__ = ["ORDERED", "QUERIES", "Query"]

Query: TypeAlias = Callable[[Tables], pl.LazyFrame]
"""Builds a query over the tables."""

QUERIES: Final[Mapping[int, Query]] = {
    1: q01_08.q1,
    2: q01_08.q2,
    3: q01_08.q3,
    4: q01_08.q4,
    5: q01_08.q5,
    6: q01_08.q6,
    7: q01_08.q7,
    8: q01_08.q8,
    9: q09_15.q9,
    10: q09_15.q10,
    11: q09_15.q11,
    12: q09_15.q12,
    13: q09_15.q13,
    14: q09_15.q14,
    15: q09_15.q15,
    16: q16_22.q16,
    17: q16_22.q17,
    18: q16_22.q18,
    19: q16_22.q19,
    20: q16_22.q20,
    21: q16_22.q21,
    22: q16_22.q22,
}
"""Queries by their number in the specification."""

ORDERED: Final[Mapping[int, Mapping[str, bool]]] = {
    1: {"l_returnflag": False, "l_linestatus": False},
    2: {"s_acctbal": True, "n_name": False, "s_name": False, "p_partkey": False},
    3: {"revenue": True, "o_orderdate": False},
    4: {"o_orderpriority": False},
    5: {"revenue": True},
    7: {"supp_nation": False, "cust_nation": False, "l_year": False},
    8: {"o_year": False},
    9: {"nation": False, "o_year": True},
    10: {"revenue": True},
    11: {"value": True},
    12: {"l_shipmode": False},
    13: {"custdist": True, "c_count": True},
    15: {"s_suppkey": False},
    16: {"supplier_cnt": True, "p_brand": False, "p_type": False, "p_size": False},
    18: {"o_totalprice": True, "o_orderdate": False},
    20: {"s_name": False},
    21: {"numwait": True, "s_name": False},
    22: {"cntrycode": False},
}
"""The columns by which a query's answer is ordered, first to last, and whether each falls. The others give one row."""
