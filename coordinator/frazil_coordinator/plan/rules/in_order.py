"""Windows over all rows in an order of their own: ``x.cum_sum().over(order_by="t")``, ``ROW_NUMBER() OVER (ORDER BY t)``.

The rows are sorted by a range exchange, the function is computed over the sorted rows by the rules of its class, and the
rows go back into their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import is_literal, is_shared_scalar, kind_of, members, operands, serialised, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules.program import planned
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS, SortKey

__all__ = ["is_over_all_rows", "order_of", "ordered_columns"]

_KEY: Final = "__frazil_key"
_TAGS: Final = ("__frazil_row0", "__frazil_row1")
"""Row tags under other names, while the sorted rows have their own."""


def is_over_all_rows(raw: RawExpr) -> bool:
    """Return whether an expression is a window without keys that gives one value a row."""
    inner = members(raw)
    if kind_of(raw) != "Over" or not isinstance(inner, dict) or str(inner["mapping"]) != "GroupsToRows":
        return False
    return all(is_literal(key) or is_shared_scalar(key) for key in cast("list[RawExpr]", inner["partition_by"]))


def order_of(raw: RawExpr) -> list[tuple[RawExpr, bool, bool]]:
    """Return what a window with an order is sorted by: each with whether it descends, and whether nulls come last.

    Of several polars makes one, encoded so that its order is theirs.
    """
    by, options = cast("tuple[RawExpr, Raw]", cast("Raw", members(raw))["order_by"])
    flags = bool(options["descending"]), bool(options["nulls_last"])
    inner = members(by)
    if kind_of(by) != "Function" or not isinstance(inner, dict) or kind_of(inner["function"]) != "RowEncode":
        return [(by, *flags)]
    how = cast("Raw", members(members(inner["function"])))
    parts = operands(by)
    descending, last = (cast("list[bool]", how[name]) for name in ("descending", "nulls_last"))
    each = zip(parts, _for_each(descending, parts), _for_each(last, parts), strict=True)
    return [(part, down is not flags[0], end) for part, down, end in each]


def _for_each(flags: list[bool], parts: list[RawExpr]) -> list[bool]:
    return flags * len(parts) if len(flags) == 1 else flags or [False] * len(parts)


def ordered_columns(exprs: Mapping[str, RawExpr], rows: Relation, context: Context) -> Relation:
    """Return the rows, in their order, with windows as columns.

    Parameters
    ----------
    exprs
        Column → window over all rows, with an order that is row-wise over the columns of `rows`.
    rows
        The rows, without row tags.
    context
        Inserts exchanges.
    """
    by_order: dict[bytes, dict[str, Raw]] = {}
    for name, raw in exprs.items():
        inner = cast("Raw", members(raw))
        by_order.setdefault(serialised(inner["order_by"]), {})[name] = inner
    for windows in by_order.values():
        rows = _in_their_order(windows, rows, context)
    return rows


def _in_their_order(windows: Mapping[str, Raw], rows: Relation, context: Context) -> Relation:
    order = order_of({"Over": next(iter(windows.values()))})
    names = rows.schema.names()
    tagged = context.tagged(rows)
    renamed = tagged.lf.rename(dict(zip(ROW_TAG_COLUMNS, _TAGS, strict=True)))
    keyed = tagged.then(renamed.with_columns(to_expr(by).alias(f"{_KEY}{n}") for n, (by, _, _) in enumerate(order)))
    keys = [
        SortKey(column=f"{_KEY}{n}", descending=descending, nulls_last=nulls_last)
        for n, (_, descending, nulls_last) in enumerate(order)
    ]
    ordered = context.sort(keyed, keys, stable=True)
    columns = [to_expr(inner["function"]).alias(name) for name, inner in windows.items()]
    computed = planned(lambda lf: lf.with_columns(columns), ordered, context)
    tags = [pl.col(own).alias(tag) for own, tag in zip(_TAGS, ROW_TAG_COLUMNS, strict=True)]
    return context.restore_order(computed.then(computed.lf.select(*names, *windows, *tags), "WINDOWS IN ORDER"))
