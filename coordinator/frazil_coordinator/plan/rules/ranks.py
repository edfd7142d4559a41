"""Ranks: rows sorted by the value through a range exchange, numbered, and brought back into their order.

Equal values never lie in two ranges, so what a rank has to know of ties it finds in its own task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import kind_of, members, operands, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.program import planned
from frazil_coordinator.plan.rules.running import number_rows
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["is_rank", "rank_columns"]

_VALUE: Final = "__frazil_value"
_INDEX: Final = "__frazil_index"
_RUN: Final = "__frazil_run"
_TAGS: Final = ("__frazil_tag0", "__frazil_tag1")
"""Row tags under other names, while the sorted rows have their own."""


def is_rank(raw: RawExpr) -> bool:
    """Return whether an expression is a rank that chance has no part in."""
    inner = members(raw)
    if kind_of(raw) != "Function" or not isinstance(inner, dict) or kind_of(inner["function"]) != "Rank":
        return False
    return _options(raw)["method"] != "Random"


def rank_columns(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return the rows, in their order, with ranks as columns.

    Parameters
    ----------
    exprs
        Column → rank of a row-wise expression over the columns of `rows`.
    rows
        The rows, without row tags.
    context
        Inserts exchanges.
    """
    for name, raw in exprs.items():
        rows = _ranked(name, raw, rows, context)
    return rows


def _options(raw: RawExpr) -> Raw:
    function = cast("Raw", cast("Raw", members(raw))["function"])
    return cast("Raw", cast("Raw", function["Rank"])["options"])


def _ranked(name: str, raw: RawExpr, rows: Relation, context: Context) -> Relation:
    names = rows.schema.names()
    (dtype,) = rows.lf.select(to_expr(raw)).collect_schema().dtypes()
    options = _options(raw)
    tagged = context.tagged(rows)
    keyed = tagged.then(
        tagged.lf.rename(dict(zip(ROW_TAG_COLUMNS, _TAGS, strict=True))).with_columns(
            to_expr(operands(raw)[0]).alias(_VALUE)
        )
    )
    # Sorted by the value alone: with more keys, equal values could lie in two ranges.
    key = SortKey(column=_VALUE, descending=bool(options["descending"]), nulls_last=True)
    ordered = context.sort(keyed, [key], stable=True)
    if options["method"] == "Dense":
        numbered = planned(lambda lf: lf.with_columns(pl.col(_VALUE).rle_id().alias(_RUN)), ordered, context)
        place = pl.col(_RUN)
    else:
        numbered = number_rows(context, ordered, name=_INDEX, offset=0)
        place = _place(str(options["method"]))
    rank = pl.when(pl.col(_VALUE).is_not_null()).then(place + 1).cast(dtype).alias(name)
    with_rank = numbered.lf.with_columns(rank).rename(dict(zip(_TAGS, ROW_TAG_COLUMNS, strict=True)))
    return context.restore_order(numbered.then(with_rank.select(*names, name, *ROW_TAG_COLUMNS), "RANK"))


def _place(method: str) -> pl.Expr:
    """Return the place of a row among those that are not null, from 0 on, by its number and those of its equals."""
    number = pl.col(_INDEX).cast(pl.Int64)
    least, most = number.min().over(_VALUE), number.max().over(_VALUE)
    match method:
        case "Min":
            return least
        case "Max":
            return most
        case "Average":
            return (least + most) / 2
        case _:
            return number
