"""Windows whose groups come one after the other (``x.sort_by(y).over(k, mapping_strategy="explode")``), as a group_by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import alias_of, is_row_wise, kind_of, members, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.program import planned
from frazil_functions.arena import Raw

__all__ = ["exploded_windows"]

_KEY: Final = "__frazil_key"


def exploded_windows(exprs: Sequence[RawExpr], rows: Relation, context: Context) -> Relation | None:
    """Return the relation of a select of such windows by the same keys, in the order in which groups first appear.

    Parameters
    ----------
    exprs
        Expressions without selectors.
    rows
        What they are evaluated over.
    context
        Inserts exchanges.

    Returns
    -------
    Relation or None
        None for any other select.
    """
    windows: dict[str, Raw] = {}
    for raw in exprs:
        inner = members(_unnamed(raw))
        if kind_of(_unnamed(raw)) != "Over" or not isinstance(inner, dict) or inner["mapping"] != "Explode":
            return None
        windows[to_expr(raw).meta.output_name()] = inner
    keys = cast("list[RawExpr]", next(iter(windows.values()))["partition_by"])
    if any(inner["order_by"] is not None or inner["partition_by"] != keys for inner in windows.values()):
        return None
    has_lists = {shape_of(inner["function"]) is not Shape.SCALAR for inner in windows.values()}
    if len(has_lists) != 1 or len(windows) != len(exprs) or not all(map(_is_key, keys)):
        return None
    by = [to_expr(key).alias(f"{_KEY}{n}") for n, key in enumerate(keys)]
    aggregates = [to_expr(inner["function"]).alias(name) for name, inner in windows.items()]

    def build(lf: pl.LazyFrame) -> pl.LazyFrame:
        grouped = lf.group_by(by, maintain_order=True).agg(aggregates).select(list(windows))
        # A group without values has a row of nulls.
        return grouped.explode(list(windows), empty_as_null=True) if has_lists == {True} else grouped

    return planned(build, rows, context)


def _unnamed(raw: RawExpr) -> RawExpr:
    aliased = alias_of(raw)
    return raw if aliased is None else _unnamed(aliased[0])


def _is_key(raw: RawExpr) -> bool:
    return is_row_wise(raw) and shape_of(raw) is Shape.COLUMN
