"""Horizontal concat: rows of the same number side by side.

Inputs that are the very same rows of the same files, only with other columns, already lie side by side. Any others are
numbered and brought together by number; polars itself then puts each task's rows side by side, so that inputs of different
lengths are an error, or filled up with nulls, exactly as polars says: where they differ, some task's rows do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.nodes import HConcat
from frazil_coordinator.plan.relation import ANY, SINGLE, Distribution, ExchangeLeaf, Relation, apply
from frazil_coordinator.plan.rules.base import combine, distribute, run_single
from frazil_coordinator.plan.rules.running import number_rows
from frazil_functions.task import SortKey

_POSITION: Final = "__frazil_position"
_OPERATOR: Final = "CONCAT SIDE BY SIDE"


@distribute.register
def _(node: HConcat, context: Context, inputs: Sequence[Relation]) -> Relation:
    if all(rows.is_single for rows in inputs) or _are_the_same_rows(inputs):
        distribution = SINGLE if inputs[0].is_single else ANY
        beside = apply(node.raw, [rows.lf for rows in inputs])
        return combine(inputs).then(beside, _OPERATOR, distribution=distribution, keeps_rows=True)
    if node.broadcasts or not all(rows.schema.names() for rows in inputs):
        return run_single(node, context, inputs, "a horizontal concat that may repeat rows", _OPERATOR)
    return _by_position(node, context, inputs)


def _are_the_same_rows(inputs: Sequence[Relation]) -> bool:
    """Return whether the inputs are columns of the same rows, in the same tasks."""
    leaves = inputs[0].leaves
    return bool(leaves) and all(
        rows.keeps_rows and rows.leaves == leaves and not any(isinstance(leaf, ExchangeLeaf) for leaf in leaves.values())
        for rows in inputs
    )


def _by_position(node: HConcat, context: Context, inputs: Sequence[Relation]) -> Relation:
    names = [f"{_POSITION}{number}" for number in range(len(inputs))]
    sides: list[Relation] = []
    for name, rows in zip(names, inputs, strict=True):
        numbered = (
            rows.then(rows.lf.with_row_index(name), "ROW INDEX")
            if rows.is_single
            else number_rows(context, rows, name=name, offset=0)
        )
        delivers = Distribution(kind="hash", keys=(name,), dtypes=(numbered.schema[name],))
        sides.append(context.shuffle(numbered, [pl.col(name)], delivers=delivers, kind="map"))
    beside = apply(node.raw, [side.lf.sort(name) for side, name in zip(sides, names, strict=True)])
    positioned = beside.with_columns(pl.coalesce(names).alias(_POSITION)).drop(names)
    joined = combine(sides).then(positioned, _OPERATOR, distribution=ANY, kind="map")
    if node.number in context.ordered:
        joined = context.sort(joined, [SortKey(column=_POSITION, descending=False, nulls_last=False)], stable=False)
    return joined.then(joined.lf.drop(_POSITION), distribution=SINGLE if joined.is_single else ANY)
