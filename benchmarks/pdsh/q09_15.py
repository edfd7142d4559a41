"""Queries 9 to 15, each from its definition in the TPC-H specification with the validation parameters."""

from __future__ import annotations

from datetime import date

import polars as pl

from benchmarks.pdsh.q01_08 import REVENUE
from benchmarks.pdsh.tables import Tables

__all__ = ["q9", "q10", "q11", "q12", "q13", "q14", "q15"]


def q9(t: Tables) -> pl.LazyFrame:
    """Product type profit measure: profit on green parts by nation and year."""
    return (
        t.part.filter(pl.col("p_name").str.contains("green", literal=True))
        .join(t.lineitem, left_on="p_partkey", right_on="l_partkey")
        .join(t.partsupp, left_on=["l_suppkey", "p_partkey"], right_on=["ps_suppkey", "ps_partkey"])
        .join(t.supplier, left_on="l_suppkey", right_on="s_suppkey")
        .join(t.nation, left_on="s_nationkey", right_on="n_nationkey")
        .join(t.orders, left_on="l_orderkey", right_on="o_orderkey")
        .select(
            nation="n_name",
            o_year=pl.col("o_orderdate").dt.year(),
            amount=REVENUE - pl.col("ps_supplycost") * pl.col("l_quantity"),
        )
        .group_by("nation", "o_year")
        .agg(sum_profit=pl.sum("amount"))
        .sort("nation", "o_year", descending=[False, True])
    )


def q10(t: Tables) -> pl.LazyFrame:
    """Report returned items: the customers who sent back the most in a quarter."""
    return (
        t.orders.filter(pl.col("o_orderdate").is_between(date(1993, 10, 1), date(1994, 1, 1), closed="left"))
        .join(t.lineitem.filter(pl.col("l_returnflag") == "R"), left_on="o_orderkey", right_on="l_orderkey")
        .join(t.customer, left_on="o_custkey", right_on="c_custkey")
        .join(t.nation, left_on="c_nationkey", right_on="n_nationkey")
        .group_by(
            pl.col("o_custkey").alias("c_custkey"), "c_name", "c_acctbal", "c_phone", "n_name", "c_address", "c_comment"
        )
        .agg(revenue=REVENUE.sum())
        .select("c_custkey", "c_name", "revenue", "c_acctbal", "n_name", "c_address", "c_phone", "c_comment")
        .sort("revenue", descending=True)
        .head(20)
    )


def q11(t: Tables) -> pl.LazyFrame:
    """Identify important stock: the parts that hold a share of the value of Germany's stock."""
    stock = (
        t.nation.filter(pl.col("n_name") == "GERMANY")
        .join(t.supplier, left_on="n_nationkey", right_on="s_nationkey")
        .join(t.partsupp, left_on="s_suppkey", right_on="ps_suppkey")
        .select("ps_partkey", value=pl.col("ps_supplycost") * pl.col("ps_availqty"))
    )
    threshold = stock.select(threshold=pl.sum("value") * (0.0001 / t.scale_factor))
    return (
        stock.group_by("ps_partkey")
        .agg(pl.sum("value"))
        .join(threshold, how="cross")
        .filter(pl.col("value") > pl.col("threshold"))
        .select("ps_partkey", "value")
        .sort("value", descending=True)
    )


def q12(t: Tables) -> pl.LazyFrame:
    """Shipping modes and order priority: late line items by mode, of urgent and of other orders."""
    late = t.lineitem.filter(
        pl.col("l_shipmode").is_in(["MAIL", "SHIP"]),
        pl.col("l_shipdate") < pl.col("l_commitdate"),
        pl.col("l_commitdate") < pl.col("l_receiptdate"),
        pl.col("l_receiptdate").is_between(date(1994, 1, 1), date(1995, 1, 1), closed="left"),
    )
    urgent = pl.col("o_orderpriority").is_in(["1-URGENT", "2-HIGH"])
    return (
        t.orders.join(late, left_on="o_orderkey", right_on="l_orderkey")
        .group_by("l_shipmode")
        .agg(high_line_count=urgent.sum(), low_line_count=(~urgent).sum())
        .sort("l_shipmode")
    )


def q13(t: Tables) -> pl.LazyFrame:
    """Tell the distribution of customers: how many have how many ordinary orders."""
    ordinary = t.orders.filter(~pl.col("o_comment").str.contains("special.*requests"))
    return (
        t.customer.join(ordinary, left_on="c_custkey", right_on="o_custkey", how="left")
        .group_by("c_custkey")
        .agg(c_count=pl.col("o_orderkey").count())
        .group_by("c_count")
        .agg(custdist=pl.len())
        .sort("custdist", "c_count", descending=[True, True])
    )


def q14(t: Tables) -> pl.LazyFrame:
    """Promotion effect: the share of a month's revenue that came from promoted parts, in percent."""
    promoted = pl.when(pl.col("p_type").str.starts_with("PROMO")).then(REVENUE).otherwise(0.0)
    return (
        t.lineitem.filter(pl.col("l_shipdate").is_between(date(1995, 9, 1), date(1995, 10, 1), closed="left"))
        .join(t.part, left_on="l_partkey", right_on="p_partkey")
        .select(promo_revenue=100.0 * promoted.sum() / REVENUE.sum())
    )


def q15(t: Tables) -> pl.LazyFrame:
    """Top supplier: who brought in the most in a quarter.

    Notes
    -----
    The revenue is used twice and compared for equality: an engine that computed it twice, in another order, could miss.
    """
    revenue = (
        t.lineitem.filter(pl.col("l_shipdate").is_between(date(1996, 1, 1), date(1996, 4, 1), closed="left"))
        .group_by(pl.col("l_suppkey").alias("supplier_no"))
        .agg(total_revenue=REVENUE.sum())
    )
    best = revenue.select(best=pl.max("total_revenue"))
    return (
        t.supplier.join(revenue, left_on="s_suppkey", right_on="supplier_no")
        .join(best, how="cross")
        .filter(pl.col("total_revenue") == pl.col("best"))
        .select("s_suppkey", "s_name", "s_address", "s_phone", "total_revenue")
        .sort("s_suppkey")
    )
