"""Queries 1 to 8, each from its definition in the TPC-H specification with the validation parameters.

Every function takes the tables and returns the query; the columns are named as in the specification.
"""

from __future__ import annotations

from datetime import date

import polars as pl

from benchmarks.pdsh.tables import Tables

__all__ = ["REVENUE", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8"]

REVENUE = pl.col("l_extendedprice") * (1 - pl.col("l_discount"))
"""What a line item brought in after its discount."""


def q1(t: Tables) -> pl.LazyFrame:
    """Pricing summary report: totals by return flag and line status."""
    return (
        t.lineitem.filter(pl.col("l_shipdate") <= date(1998, 9, 2))
        .group_by("l_returnflag", "l_linestatus")
        .agg(
            sum_qty=pl.sum("l_quantity"),
            sum_base_price=pl.sum("l_extendedprice"),
            sum_disc_price=REVENUE.sum(),
            sum_charge=(REVENUE * (1 + pl.col("l_tax"))).sum(),
            avg_qty=pl.mean("l_quantity"),
            avg_price=pl.mean("l_extendedprice"),
            avg_disc=pl.mean("l_discount"),
            count_order=pl.len(),
        )
        .sort("l_returnflag", "l_linestatus")
    )


def q2(t: Tables) -> pl.LazyFrame:
    """Minimum cost supplier: who in Europe offers each brass part of size 15 at the lowest price."""
    europe = (
        t.region.filter(pl.col("r_name") == "EUROPE")
        .join(t.nation, left_on="r_regionkey", right_on="n_regionkey")
        .join(t.supplier, left_on="n_nationkey", right_on="s_nationkey")
    )
    offers = (
        t.part.filter(pl.col("p_size") == 15, pl.col("p_type").str.ends_with("BRASS"))
        .join(t.partsupp, left_on="p_partkey", right_on="ps_partkey")
        .join(europe, left_on="ps_suppkey", right_on="s_suppkey")
    )
    cheapest = offers.group_by("p_partkey").agg(pl.min("ps_supplycost"))
    return (
        offers.join(cheapest, on=["p_partkey", "ps_supplycost"])
        .select("s_acctbal", "s_name", "n_name", "p_partkey", "p_mfgr", "s_address", "s_phone", "s_comment")
        .sort("s_acctbal", "n_name", "s_name", "p_partkey", descending=[True, False, False, False])
        .head(100)
    )


def q3(t: Tables) -> pl.LazyFrame:
    """Shipping priority: the unshipped orders of the highest value."""
    day = date(1995, 3, 15)
    return (
        t.customer.filter(pl.col("c_mktsegment") == "BUILDING")
        .join(t.orders.filter(pl.col("o_orderdate") < day), left_on="c_custkey", right_on="o_custkey")
        .join(t.lineitem.filter(pl.col("l_shipdate") > day), left_on="o_orderkey", right_on="l_orderkey")
        .group_by("o_orderkey", "o_orderdate", "o_shippriority")
        .agg(revenue=REVENUE.sum())
        .select(pl.col("o_orderkey").alias("l_orderkey"), "revenue", "o_orderdate", "o_shippriority")
        .sort("revenue", "o_orderdate", descending=[True, False])
        .head(10)
    )


def q4(t: Tables) -> pl.LazyFrame:
    """Order priority checking: orders of a quarter with a line item received too late."""
    late = t.lineitem.filter(pl.col("l_commitdate") < pl.col("l_receiptdate"))
    return (
        t.orders.filter(pl.col("o_orderdate").is_between(date(1993, 7, 1), date(1993, 10, 1), closed="left"))
        .join(late, left_on="o_orderkey", right_on="l_orderkey", how="semi")
        .group_by("o_orderpriority")
        .agg(order_count=pl.len())
        .sort("o_orderpriority")
    )


def q5(t: Tables) -> pl.LazyFrame:
    """Local supplier volume: revenue in Asia where customer and supplier are of one nation."""
    return (
        t.region.filter(pl.col("r_name") == "ASIA")
        .join(t.nation, left_on="r_regionkey", right_on="n_regionkey")
        .join(t.customer, left_on="n_nationkey", right_on="c_nationkey")
        .join(
            t.orders.filter(pl.col("o_orderdate").is_between(date(1994, 1, 1), date(1995, 1, 1), closed="left")),
            left_on="c_custkey",
            right_on="o_custkey",
        )
        .join(t.lineitem, left_on="o_orderkey", right_on="l_orderkey")
        .join(t.supplier, left_on=["l_suppkey", "n_nationkey"], right_on=["s_suppkey", "s_nationkey"])
        .group_by("n_name")
        .agg(revenue=REVENUE.sum())
        .sort("revenue", descending=True)
    )


def q6(t: Tables) -> pl.LazyFrame:
    """Forecasting revenue change: what certain discounts of a year cost.

    Notes
    -----
    The bounds are half a cent off 0.05 and 0.07, which no discount lies between, so that no rounding of floats matters.
    """
    return t.lineitem.filter(
        pl.col("l_shipdate").is_between(date(1994, 1, 1), date(1995, 1, 1), closed="left"),
        pl.col("l_discount").is_between(0.045, 0.075),
        pl.col("l_quantity") < 24,
    ).select(revenue=(pl.col("l_extendedprice") * pl.col("l_discount")).sum())


def q7(t: Tables) -> pl.LazyFrame:
    """Volume shipping: what France and Germany shipped to each other, by year."""
    pair = pl.col("n_name").is_in(["FRANCE", "GERMANY"])
    suppliers = (
        t.nation.filter(pair)
        .join(t.supplier, left_on="n_nationkey", right_on="s_nationkey")
        .select("s_suppkey", supp_nation="n_name")
    )
    customers = (
        t.nation.filter(pair)
        .join(t.customer, left_on="n_nationkey", right_on="c_nationkey")
        .select("c_custkey", cust_nation="n_name")
    )
    return (
        t.lineitem.filter(pl.col("l_shipdate").is_between(date(1995, 1, 1), date(1996, 12, 31)))
        .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
        .join(t.orders, left_on="l_orderkey", right_on="o_orderkey")
        .join(customers, left_on="o_custkey", right_on="c_custkey")
        .filter(pl.col("supp_nation") != pl.col("cust_nation"))
        .with_columns(l_year=pl.col("l_shipdate").dt.year())
        .group_by("supp_nation", "cust_nation", "l_year")
        .agg(revenue=REVENUE.sum())
        .sort("supp_nation", "cust_nation", "l_year")
    )


def q8(t: Tables) -> pl.LazyFrame:
    """National market share: Brazil's share of a part type sold in America, by year."""
    american = (
        t.region.filter(pl.col("r_name") == "AMERICA")
        .join(t.nation, left_on="r_regionkey", right_on="n_regionkey")
        .join(t.customer, left_on="n_nationkey", right_on="c_nationkey")
        .select("c_custkey")
    )
    volume = (
        t.part.filter(pl.col("p_type") == "ECONOMY ANODIZED STEEL")
        .join(t.lineitem, left_on="p_partkey", right_on="l_partkey")
        .join(
            t.orders.filter(pl.col("o_orderdate").is_between(date(1995, 1, 1), date(1996, 12, 31))),
            left_on="l_orderkey",
            right_on="o_orderkey",
        )
        .join(american, left_on="o_custkey", right_on="c_custkey")
        .join(t.supplier, left_on="l_suppkey", right_on="s_suppkey")
        .join(t.nation, left_on="s_nationkey", right_on="n_nationkey")
        .select(pl.col("o_orderdate").dt.year().alias("o_year"), "n_name", volume=REVENUE)
    )
    brazil = pl.when(pl.col("n_name") == "BRAZIL").then(pl.col("volume")).otherwise(0.0)
    return volume.group_by("o_year").agg(mkt_share=brazil.sum() / pl.sum("volume")).sort("o_year")
