"""Queries 16 to 22, each from its definition in the TPC-H specification with the validation parameters."""

from __future__ import annotations

from datetime import date

import polars as pl

from benchmarks.pdsh.q01_08 import REVENUE
from benchmarks.pdsh.tables import Tables

__all__ = ["q16", "q17", "q18", "q19", "q20", "q21", "q22"]


def q16(t: Tables) -> pl.LazyFrame:
    """Parts/supplier relationship: how many reliable suppliers offer parts of certain kinds."""
    blamed = t.supplier.filter(pl.col("s_comment").str.contains("Customer.*Complaints"))
    return (
        t.part.filter(
            pl.col("p_brand") != "Brand#45",
            ~pl.col("p_type").str.starts_with("MEDIUM POLISHED"),
            pl.col("p_size").is_in([49, 14, 23, 45, 19, 3, 36, 9]),
        )
        .join(t.partsupp, left_on="p_partkey", right_on="ps_partkey")
        .join(blamed, left_on="ps_suppkey", right_on="s_suppkey", how="anti")
        .group_by("p_brand", "p_type", "p_size")
        .agg(supplier_cnt=pl.col("ps_suppkey").n_unique())
        .sort("supplier_cnt", "p_brand", "p_type", "p_size", descending=[True, False, False, False])
    )


def q17(t: Tables) -> pl.LazyFrame:
    """Small-quantity-order revenue: what orders far below a part's average quantity bring in a year."""
    lines = t.part.filter(pl.col("p_brand") == "Brand#23", pl.col("p_container") == "MED BOX").join(
        t.lineitem, left_on="p_partkey", right_on="l_partkey"
    )
    average = lines.group_by("p_partkey").agg(few=0.2 * pl.mean("l_quantity"))
    return (
        lines.join(average, on="p_partkey")
        .filter(pl.col("l_quantity") < pl.col("few"))
        .select(avg_yearly=pl.sum("l_extendedprice") / 7.0)
    )


def q18(t: Tables) -> pl.LazyFrame:
    """Large volume customer: who placed orders of more than 300 units."""
    large = t.lineitem.group_by("l_orderkey").agg(pl.sum("l_quantity")).filter(pl.col("l_quantity") > 300)
    return (
        t.orders.join(large, left_on="o_orderkey", right_on="l_orderkey", how="semi")
        .join(t.lineitem, left_on="o_orderkey", right_on="l_orderkey")
        .join(t.customer, left_on="o_custkey", right_on="c_custkey")
        .group_by("c_name", pl.col("o_custkey").alias("c_custkey"), "o_orderkey", "o_orderdate", "o_totalprice")
        .agg(pl.sum("l_quantity").alias("sum_qty"))
        .sort("o_totalprice", "o_orderdate", descending=[True, False])
        .head(100)
    )


def q19(t: Tables) -> pl.LazyFrame:
    """Discounted revenue: three kinds of parts delivered by air and in person."""

    def kind(brand: str, containers: list[str], quantity: int, size: int) -> pl.Expr:
        return (
            (pl.col("p_brand") == brand)
            & pl.col("p_container").is_in(containers)
            & pl.col("l_quantity").is_between(quantity, quantity + 10)
            & pl.col("p_size").is_between(1, size)
        )

    return (
        t.lineitem.filter(pl.col("l_shipmode").is_in(["AIR", "AIR REG"]), pl.col("l_shipinstruct") == "DELIVER IN PERSON")
        .join(t.part, left_on="l_partkey", right_on="p_partkey")
        .filter(
            kind("Brand#12", ["SM CASE", "SM BOX", "SM PACK", "SM PKG"], 1, 5)
            | kind("Brand#23", ["MED BAG", "MED BOX", "MED PKG", "MED PACK"], 10, 10)
            | kind("Brand#34", ["LG CASE", "LG BOX", "LG PACK", "LG PKG"], 20, 15)
        )
        .select(revenue=REVENUE.sum())
    )


def q20(t: Tables) -> pl.LazyFrame:
    """Potential part promotion: Canada's suppliers with more of a forest part than half of what they shipped in a year."""
    shipped = (
        t.lineitem.filter(pl.col("l_shipdate").is_between(date(1994, 1, 1), date(1995, 1, 1), closed="left"))
        .group_by("l_partkey", "l_suppkey")
        .agg(half=0.5 * pl.sum("l_quantity"))
    )
    plenty = (
        t.partsupp.join(
            t.part.filter(pl.col("p_name").str.starts_with("forest")), left_on="ps_partkey", right_on="p_partkey", how="semi"
        )
        .join(shipped, left_on=["ps_partkey", "ps_suppkey"], right_on=["l_partkey", "l_suppkey"])
        .filter(pl.col("ps_availqty") > pl.col("half"))
    )
    return (
        t.nation.filter(pl.col("n_name") == "CANADA")
        .join(t.supplier, left_on="n_nationkey", right_on="s_nationkey")
        .join(plenty, left_on="s_suppkey", right_on="ps_suppkey", how="semi")
        .select("s_name", "s_address")
        .sort("s_name")
    )


def q21(t: Tables) -> pl.LazyFrame:
    """Suppliers who kept orders waiting: the only one who was late, in an order of several suppliers."""
    late = t.lineitem.filter(pl.col("l_receiptdate") > pl.col("l_commitdate"))
    shared = t.lineitem.group_by("l_orderkey").agg(pl.col("l_suppkey").n_unique()).filter(pl.col("l_suppkey") > 1)
    one_late = late.group_by("l_orderkey").agg(pl.col("l_suppkey").n_unique()).filter(pl.col("l_suppkey") == 1)
    return (
        late.join(shared, on="l_orderkey", how="semi")
        .join(one_late, on="l_orderkey", how="semi")
        .join(t.orders.filter(pl.col("o_orderstatus") == "F"), left_on="l_orderkey", right_on="o_orderkey", how="semi")
        .join(t.supplier, left_on="l_suppkey", right_on="s_suppkey")
        .join(t.nation.filter(pl.col("n_name") == "SAUDI ARABIA"), left_on="s_nationkey", right_on="n_nationkey")
        .group_by("s_name")
        .agg(numwait=pl.len())
        .sort("numwait", "s_name", descending=[True, False])
        .head(100)
    )


def q22(t: Tables) -> pl.LazyFrame:
    """Global sales opportunity: customers of certain countries with money and without orders."""
    customers = t.customer.with_columns(cntrycode=pl.col("c_phone").str.slice(0, 2)).filter(
        pl.col("cntrycode").is_in(["13", "31", "23", "29", "30", "18", "17"])
    )
    average = customers.filter(pl.col("c_acctbal") > 0).select(average=pl.mean("c_acctbal"))
    return (
        customers.join(average, how="cross")
        .filter(pl.col("c_acctbal") > pl.col("average"))
        .join(t.orders, left_on="c_custkey", right_on="o_custkey", how="anti")
        .group_by("cntrycode")
        .agg(numcust=pl.len(), totacctbal=pl.sum("c_acctbal"))
        .sort("cntrycode")
    )
