"""Reshaping: unpivot, pivot, and what only changes the schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import expand, is_literal, is_row_wise, plain_column
from frazil_coordinator.plan.nodes import MapFunction, MatchToSchema, Pivot
from frazil_coordinator.plan.relation import ANY, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import distribute, run_single
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["unpivot"]

_BLOCK: Final = "__frazil_block"


def unpivot(node: MapFunction, context: Context, rows: Relation) -> Relation:
    """Return the relation of an unpivot.

    Each task unpivots its own rows. Polars' answer has all rows of the first column, then all of the second, and so on:
    where somebody looks at that order, rows are sorted by the number of their column, and by where they were.
    """
    operator = "UNPIVOT"
    if rows.is_single or node.number not in context.ordered:
        return rows.then(apply(node.raw, [rows.lf]), operator, distribution=None if rows.is_single else ANY)
    tall = apply(node.raw, [rows.lf])
    args = cast("Raw", cast("Raw", cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])["Unpivot"])["args"])
    index = expand({"Selector": args["index"]}, rows.schema)
    names = [name for name in rows.schema.names() if {"Column": name} not in index]
    if args["on"] is not None:
        names = [str(plain_column(raw)) for raw in expand({"Selector": args["on"]}, rows.schema)]
    variable = str(args["variable_name"] or "variable")
    numbers = pl.lit(None, dtype=pl.UInt32)
    if names:
        numbers = pl.col(variable).replace_strict(names, range(len(names)), return_dtype=pl.UInt32)
    tagged = context.tagged(rows.then(tall.with_columns(numbers.alias(_BLOCK)), operator, distribution=ANY))
    keys = [SortKey(column=name, descending=False, nulls_last=False) for name in (_BLOCK, *ROW_TAG_COLUMNS)]
    ordered = context.sort(tagged, keys, stable=False)
    return ordered.then(ordered.lf.drop(_BLOCK, *ROW_TAG_COLUMNS), "ORDER BY COLUMN", distribution=ANY)


@distribute.register
def _(node: Pivot, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = "PIVOT"
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), operator)
    try:
        names = [str(plain_column(raw)) for raw in expand(node.index, rows.schema)]
    except (PolarsError, ValueError):
        names = []
    if not names:
        return run_single(node, context, inputs, "a pivot without columns to group by", operator)
    operator = f"PIVOT BY {', '.join(names)}"
    if not (node.maintain_order and node.number in context.ordered):
        if rows.distribution.kind == "hash" and set(rows.distribution.keys) <= set(names):
            return rows.then(apply(node.raw, [rows.lf]), operator, kind="group_by", distribution=ANY)
        by_key = _shuffled(context, rows, names, row_tag=False)
        return by_key.then(apply(node.raw, [by_key.lf]), operator)
    by_key = _shuffled(context, rows, names, row_tag=True)
    # Both sides keep the order in which groups first appear in the task, so they belong together row by row.
    tags = by_key.lf.group_by(names, maintain_order=True).agg(pl.col(ROW_TAG_COLUMNS).first()).select(ROW_TAG_COLUMNS)
    pivoted = apply(node.raw, [by_key.lf.drop(ROW_TAG_COLUMNS)])
    return context.restore_order(by_key.then(pl.concat([pivoted, tags], how="horizontal"), operator, distribution=ANY))


def _shuffled(context: Context, rows: Relation, names: Sequence[str], *, row_tag: bool) -> Relation:
    schema = rows.schema
    delivers = Distribution(kind="hash", keys=tuple(names), dtypes=tuple(schema[name] for name in names))
    keys = [pl.col(name) for name in names]
    return context.shuffle(rows, keys, delivers=delivers, kind="group_by", row_tag=row_tag)


@distribute.register
def _(node: MatchToSchema, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    if not all(is_literal(raw) or is_row_wise(raw) for raw in node.defaults):
        return run_single(node, context, inputs, "a default of match_to_schema looks at more than one row", "MATCH SCHEMA")
    return rows.then(
        apply(node.raw, [rows.lf]), "MATCH SCHEMA", distribution=None if rows.is_single else ANY, keeps_rows=True
    )
