"""Statistics of whole frames (``LazyFrame.sum()``, ``min``, ``quantile``, …) as a select of aggregates, one a column.

A column whose dtype has no such statistic is null in Polars' answer, of the dtype that Polars says. Whether it has one is
asked of Polars too: the aggregate of such a column is an error, or of another dtype. Next: the rule of Select.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import from_expr, kind_of, members, to_expr
from frazil_coordinator.plan.nodes import MapFunction, Select
from frazil_coordinator.plan.relation import Relation, apply
from frazil_coordinator.plan.rules.base import distribute, run_single
from frazil_functions.arena import Arena, Raw

if TYPE_CHECKING:
    from polars._typing import QuantileMethod

__all__ = ["statistics"]


def _ddof(body: Raw) -> int:
    return cast("int", body["ddof"])


_AGGREGATES: Final[dict[str, Callable[[pl.Expr, Raw], pl.Expr]]] = {
    "Sum": lambda column, _: column.sum(),
    "Min": lambda column, _: column.min(),
    "Max": lambda column, _: column.max(),
    "Mean": lambda column, _: column.mean(),
    "Median": lambda column, _: column.median(),
    "Std": lambda column, body: column.std(_ddof(body)),
    "Var": lambda column, body: column.var(_ddof(body)),
    "Quantile": lambda column, body: column.quantile(
        to_expr(body["quantile"]), cast("QuantileMethod", str(body["method"]).lower())
    ),
}


def statistics(node: MapFunction, context: Context, rows: Relation) -> Relation:
    """Return the relation of a frame's statistics: one row."""
    stats = cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])["Stats"]
    operator = f"STATISTICS {kind_of(stats)}"
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), operator)
    aggregate = _AGGREGATES.get(kind_of(stats))
    expected = apply(node.raw, [rows.lf]).collect_schema()
    if aggregate is None or expected.names() != rows.schema.names():
        return run_single(node, context, [rows], f"{kind_of(stats)} of a frame has no distributed form", operator)
    body = cast("Raw", members(stats) or {})
    exprs = [_of_column(name, dtype, rows.schema[name], aggregate, body) for name, dtype in expected.items()]
    arena = Arena.of(pl.LazyFrame(schema=rows.schema).select(exprs))
    select = Select(
        number=node.number, inputs=node.inputs, raw=arena.nodes[arena.root], exprs=tuple(from_expr(expr) for expr in exprs)
    )
    return distribute(select, context, [rows])


def _of_column(
    name: str, expected: pl.DataType, dtype: pl.DataType, aggregate: Callable[[pl.Expr, Raw], pl.Expr], body: Raw
) -> pl.Expr:
    expr = aggregate(pl.col(name), body)
    try:
        found = pl.DataFrame(schema={name: dtype}).select(expr).schema[name]
    except (PolarsError, pl.exceptions.PanicException):
        found = None
    return expr if found == expected else pl.lit(None, dtype=expected).alias(name)
