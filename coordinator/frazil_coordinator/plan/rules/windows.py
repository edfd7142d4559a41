"""Windows (``over``), and what else looks at the rows of equal keys.

Rows of equal keys come into one task, which computes the expression as it is; then the rows go back into their order.
Windows that share a key are done together: rows are shuffled by the keys that they share, which brings every window's groups
together. Others follow one after the other. Rows keep their order inside a partition; where somebody looks at it, row tags
bring them back into it between partitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import plain_column, serialised, to_expr
from frazil_coordinator.plan.looks import keys_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.relation import ANY, Distribution, Relation
from frazil_coordinator.plan.rules.errors import describe
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["group_columns"]


@dataclass(slots=True)
class _Pass:
    """Expressions that have keys in common."""

    exprs: dict[str, RawExpr]
    keys: dict[bytes, RawExpr]

    @property
    def columns(self) -> list[str | None]:
        """Keys that are bare columns."""
        return [plain_column(key) for key in self.keys.values()]


def _passes(exprs: Mapping[str, RawExpr]) -> list[_Pass]:
    passes: list[_Pass] = []
    for name, raw in exprs.items():
        keys = {serialised(key): key for key in keys_of(raw)}
        for one in passes:
            shared = {key: raw for key, raw in one.keys.items() if key in keys}
            if shared:
                one.exprs[name] = raw
                one.keys = shared
                break
        else:
            passes.append(_Pass(exprs={name: raw}, keys=keys))
    return passes


def group_columns(
    exprs: Mapping[str, RawExpr], rows: Relation, context: Context, *, tagged: bool, ordered: bool
) -> Relation:
    """Return the rows with expressions of the class ``GROUP`` as columns, without row tags.

    Parameters
    ----------
    exprs
        Column → expression over the columns of `rows`.
    rows
        The rows; with row tags when they are `tagged`.
    context
        Inserts exchanges.
    tagged
        Whether the rows carry row tags.
    ordered
        Whether an expression, or somebody after it, looks at the order of rows.
    """
    shuffled = False
    for one in _passes(exprs):
        columns = [to_expr(raw).alias(name) for name, raw in one.exprs.items()]
        if not shuffled and _lie_together(rows, one):
            rows = rows.then(rows.lf.with_columns(columns), _operator(one))
            continue
        on = [to_expr(key) for key in one.keys.values()]
        by_key = context.shuffle(rows, on, delivers=_delivers(one, rows), kind="map", row_tag=ordered and not tagged)
        # A second shuffle puts the blocks of the first one's partitions together, each of them in order.
        lf = by_key.lf.sort(ROW_TAG_COLUMNS) if shuffled and ordered else by_key.lf
        distribution = ANY if None in one.columns else by_key.distribution
        rows = by_key.then(lf.with_columns(columns), _operator(one), distribution=distribution)
        tagged, shuffled = tagged or ordered, True
    if shuffled and ordered:
        return context.restore_order(rows)
    return rows.then(rows.lf.drop(ROW_TAG_COLUMNS)) if tagged else rows


def _lie_together(rows: Relation, one: _Pass) -> bool:
    return rows.distribution.kind == "hash" and set(rows.distribution.keys) <= set(one.columns)


def _delivers(one: _Pass, rows: Relation) -> Distribution:
    """Return how rows lie by the keys; under the text of a key that is no column, which no column has."""
    names = [
        column if column is not None else describe(key) for column, key in zip(one.columns, one.keys.values(), strict=True)
    ]
    dtypes = rows.lf.select(to_expr(key).alias(str(n)) for n, key in enumerate(one.keys.values())).collect_schema().dtypes()
    return Distribution(kind="hash", keys=tuple(names), dtypes=tuple(dtypes))


def _operator(one: _Pass) -> str:
    return f"WINDOWS BY {', '.join(describe(key) for key in one.keys.values())}"
