"""Which offers of runtime filters the finished stages allow."""

from __future__ import annotations

import polars as pl

from frazil_coordinator.plan.relation import SINGLE, Exchange, Relation
from frazil_coordinator.plan.runtime_filters import FilterOffer, Finished, StageOrder, choose_filters


def test_an_offer_of_a_join_that_is_no_part_of_the_plan_is_passed_over() -> None:
    rows = Relation(lf=pl.LazyFrame({"a": [1]}), leaves={}, distribution=SINGLE, kind="single")
    given_up = Exchange(producer=rows, kind="broadcast")
    offer = FilterOffer(build_leaf=1, path=(0,), column="a", build=given_up, key="a", build_bytes=1, probe_bytes=9)
    root = Finished(leaves=(), uses={}, kinds=frozenset({"DataFrameScan"}), relation=rows, exchange=None)
    assert choose_filters([offer], StageOrder([root])) == {}
