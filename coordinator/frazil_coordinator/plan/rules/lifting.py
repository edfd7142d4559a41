"""Expressions that look at more than their own row: what is not row-wise becomes a column first, from the inside out.

``x.rank().over(k) - x.filter(x > x.mean()).sum()`` is done in levels. Parts whose operands are row-wise are taken out and
computed, each by the rule of its class (:mod:`~frazil_coordinator.plan.looks`): aggregates by :mod:`.scalars`, windows by
:mod:`.windows`, neighbours by :mod:`.near`, running states by :mod:`.running` and :mod:`.decaying`, ranks by :mod:`.ranks`,
windows of time by :mod:`.rolling_by`, windows in another order by :mod:`.in_order`, sorted and gathered values by
:mod:`.vectors`; :mod:`.rewrites` says some in other terms. They come back as columns beside the rows, in whose places the
expression then names them; the next level does the same with what is left, until all of it is row-wise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import (
    SCALAR_PREFIX,
    expand,
    from_expr,
    is_row_wise,
    kind_of,
    members,
    operands,
    row_operands,
    serialised,
    shared_scalar,
    to_expr,
    with_operands,
)
from frazil_coordinator.plan.looks import Look, Shape, is_repeated, is_row_index, look_of, reads_rows, shape_of
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.order import is_order_free
from frazil_coordinator.plan.relation import ExchangeLeaf, Relation
from frazil_coordinator.plan.rules.base import beside
from frazil_coordinator.plan.rules.decaying import decaying_columns, is_decaying
from frazil_coordinator.plan.rules.errors import NotDistributedError
from frazil_coordinator.plan.rules.in_order import is_over_all_rows, order_of, ordered_columns
from frazil_coordinator.plan.rules.near import near_columns
from frazil_coordinator.plan.rules.ranks import is_rank, rank_columns
from frazil_coordinator.plan.rules.rewrites import in_simpler_terms, is_member_of_lists
from frazil_coordinator.plan.rules.rolling_by import is_rolling_by, rolling_by_columns
from frazil_coordinator.plan.rules.running import carried_columns
from frazil_coordinator.plan.rules.scalars import scalar_row
from frazil_coordinator.plan.rules.vectors import vector_columns
from frazil_coordinator.plan.rules.windows import group_columns
from frazil_functions.arena import Raw
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["Evaluated", "evaluate"]

_COLUMN_PREFIX: Final = "__frazil_column"
_DEEPEST: Final = 12
"""Levels of expressions that are gone into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Rows with the columns that make some expressions row-wise."""

    relation: Relation
    """The rows in their order, with columns of their own and `helpers`; one row of helpers alone for `scalar` ones."""

    exprs: tuple[pl.Expr, ...]
    """The expressions, under their names, over the columns of `relation`."""

    helpers: tuple[str, ...]
    """Columns that were added."""

    scalar: bool
    """Whether every expression is one value, so that `relation` has one row."""


def evaluate(exprs: Sequence[RawExpr], rows: Relation, context: Context, *, ordered: bool) -> Evaluated:
    """Make expressions row-wise by computing what is not, beside the rows.

    Parameters
    ----------
    exprs
        Expressions of a select, with_columns or filter.
    rows
        What they are evaluated over.
    context
        Inserts exchanges.
    ordered
        Whether the order of the rows is seen by what comes after.

    Raises
    ------
    NotDistributedError
        When a part has no distributed form; it says which.
    """
    try:
        singles = [single for raw in exprs for single in expand(raw, rows.schema)]
        names = [to_expr(single).meta.output_name() for single in singles]
    except (PolarsError, ValueError) as error:
        raise NotDistributedError(str(error)) from error
    for single in singles:
        if shape_of(single) is Shape.OTHER:
            raise NotDistributedError("it has a number of values of its own", single)
    state = _State(context=context, rows=rows, ordered=ordered or not all(map(is_order_free, singles)))
    scalar = all(shape_of(single) is Shape.SCALAR for single in singles)
    pending = state.lifted(singles, scalar=scalar)
    relation = state.scalars_alone() if scalar else state.rows
    return Evaluated(
        relation=relation,
        exprs=tuple(to_expr(raw).alias(name) for raw, name in zip(pending, names, strict=True)),
        helpers=tuple(name for name in relation.schema.names() if name not in rows.schema),
        scalar=scalar,
    )


@dataclass(slots=True)
class _State:
    """The rows, and what was added to them so far."""

    context: Context
    rows: Relation
    ordered: bool
    scalars: list[Relation] = field(default_factory=list)

    def lifted(self, exprs: Sequence[RawExpr], *, scalar: bool) -> list[RawExpr]:
        """Return the expressions over the columns that they need, which are added to the rows."""
        pending = list(exprs)
        for _ in range(_DEEPEST):
            if all(map(is_row_wise, pending)):
                return pending
            level = _Level(number=self.context.number, schema=self.rows.schema)
            reduced = [level.reduced(raw) for raw in pending]
            if reduced == pending:
                break
            last = scalar and all(map(is_row_wise, reduced))
            self._add(level, alone=last)
            pending = reduced
        raise NotDistributedError("it is too deep", next(raw for raw in pending if not is_row_wise(raw)))

    def _add(self, level: _Level, *, alone: bool) -> None:
        """Compute the parts of a level; `alone`: its scalars are all that is looked at from now on."""
        if not level.names:
            return
        if level.local:
            columns = [to_expr(raw).alias(name) for name, raw in level.local.items()]
            self.rows = self.rows.then(self.rows.lf.with_columns(columns), divisible=True)
        tagged = bool(level.near or level.carried or level.decaying)
        if tagged:
            before = wide = self.context.tagged(self.rows)
        elif level.scalars and any(isinstance(leaf, ExchangeLeaf) for leaf in self.rows.leaves.values()):
            # Computed once: sums in another order would make ``x == x.max()`` miss.
            before = wide = self.context.once(self.rows)
        else:
            before = wide = self.rows
        if level.near:
            wide = near_columns(level.near, wide, self.context)
        if level.carried:
            wide = carried_columns(level.carried, before, wide, self.context)
        wide = decaying_columns(level.decaying, before, wide, self.context)
        if level.scalars:
            row = scalar_row(level.scalars, before, self.context)
            self.scalars.append(row)
            wide = wide if alone else beside(wide, self.context.broadcast(row))
        if level.groups:
            wide = group_columns(level.groups, wide, self.context, tagged=tagged, ordered=self.ordered)
        elif tagged:
            wide = wide.then(wide.lf.drop(ROW_TAG_COLUMNS))
        ranked = rank_columns(level.ranks, wide, self.context)
        rolled = rolling_by_columns(level.by_time, ranked, self.context)
        self.rows = vector_columns(level.vectors, ordered_columns(level.in_order, rolled, self.context), self.context)

    def scalars_alone(self) -> Relation:
        """Return one row of all scalars."""
        if len(self.scalars) == 1:
            return self.scalars[0]
        whole, *others = [self.context.broadcast(row) for row in self.scalars]
        for other in others:
            whole = beside(whole, other)
        return whole


@dataclass(slots=True)
class _Level:
    """The parts of some expressions whose operands are row-wise, by the columns that will hold them."""

    number: Callable[[], int]
    """Gives numbers that are unique in the query: a rule may lift out of expressions of its own."""

    schema: pl.Schema
    names: dict[bytes, RawExpr] = field(default_factory=dict)
    local: dict[str, RawExpr] = field(default_factory=dict)
    """Row-wise ones, of which the expression does not tell that they are."""

    scalars: dict[str, RawExpr] = field(default_factory=dict)
    near: dict[str, RawExpr] = field(default_factory=dict)
    carried: dict[str, RawExpr] = field(default_factory=dict)
    decaying: dict[str, RawExpr] = field(default_factory=dict)
    groups: dict[str, RawExpr] = field(default_factory=dict)
    ranks: dict[str, RawExpr] = field(default_factory=dict)
    by_time: dict[str, RawExpr] = field(default_factory=dict)
    in_order: dict[str, RawExpr] = field(default_factory=dict)
    vectors: dict[str, RawExpr] = field(default_factory=dict)

    def reduced(self, raw: RawExpr) -> RawExpr:
        """Return the expression with these parts replaced by columns."""
        if is_row_wise(raw):
            return raw
        parts = operands(raw)
        if kind_of(raw) in ("Alias", "KeepName", "RenameAlias"):
            return self.reduced(parts[0])
        if is_row_index(raw):
            return self._column(raw, Look.CARRIED)
        if is_repeated(raw):
            (dtype,) = pl.LazyFrame(schema=self.schema).select(to_expr(raw)).collect_schema().dtypes()
            return self._column(from_expr(to_expr(operands(raw)[0]).cast(dtype)), Look.ROW)
        simpler = in_simpler_terms(raw, self.schema)
        if simpler is not None:
            return self.reduced(simpler)
        if is_over_all_rows(raw):
            return self._over_all_rows(raw)
        if kind_of(raw) == "Gather" or is_member_of_lists(raw, self.schema):
            return self._column(raw, Look.WHOLE)
        look = look_of(raw)
        if look is Look.ROW:
            own = row_operands(raw) if kind_of(raw) == "Function" else parts
            if any(shape_of(part) is Shape.OTHER for part in own):
                raise NotDistributedError("it stands on values of another number", raw)
            return with_operands(raw, [self._named(part) if part in own else part for part in parts])
        if look is Look.AGGREGATE and kind_of(parts[0] if parts else raw) in ("Sort", "SortBy"):
            return self._column(raw, look)
        lowered = [self._operand(part) for part in parts]
        return with_operands(raw, lowered) if lowered != parts else self._column(raw, look)

    def _over_all_rows(self, raw: RawExpr) -> RawExpr:
        """Return what is left of a window without keys: its function, for each row."""
        inner = cast("Raw", members(raw))
        function = inner["function"]
        if inner["order_by"] is not None:
            if all(is_row_wise(by) for by, _, _ in order_of(raw)):
                return self._column(raw, Look.WHOLE)
            *keys, order = operands(raw)
            several = kind_of(order) == "Function" and len(order_of(raw)) > 1
            lowered = with_operands(order, list(map(self.reduced, operands(order)))) if several else self.reduced(order)
            return with_operands(raw, [*keys, lowered])
        if shape_of(function) is Shape.OTHER:
            raise NotDistributedError("it has a number of values of its own", function)
        reduced = self.reduced(function)
        if reduced != function:  # what it stands on comes into being with this level
            return {"Over": {**inner, "function": reduced}}
        return self._column(reduced, Look.ROW) if shape_of(reduced) is Shape.SCALAR else reduced

    def _named(self, raw: RawExpr) -> RawExpr:
        """Return an operand, reduced, under the name that it had: a struct has its fields by it."""
        reduced = self.reduced(raw)
        return reduced if reduced == raw else {"Alias": [reduced, to_expr(raw).meta.output_name()]}

    def _operand(self, raw: RawExpr) -> RawExpr:
        if shape_of(raw) is not Shape.OTHER:
            return self.reduced(raw)
        if kind_of(raw) == "Filter" and all(shape_of(part) is not Shape.OTHER for part in operands(raw)):
            return with_operands(raw, [self.reduced(part) for part in operands(raw)])
        return raw

    def _column(self, raw: RawExpr, look: Look) -> RawExpr:
        """Give a part a column, and return what stands for it."""
        place = self._place(raw, look)
        if place is self.scalars:
            if kind_of(raw) not in ("Len", "Gather") and shape_of(operands(raw)[0]) is Shape.SCALAR:
                raise NotDistributedError("it aggregates one value", raw)
        elif place is not self.local and not reads_rows(raw):
            raise NotDistributedError("it has no column of its own", raw)
        key = serialised(raw)
        if key not in self.names:
            is_scalar = place is self.scalars
            name = f"{SCALAR_PREFIX if is_scalar else _COLUMN_PREFIX}{self.number()}"
            self.names[key] = shared_scalar(name) if is_scalar else {"Column": name}
            place[name] = raw
        return self.names[key]

    def _place(self, raw: RawExpr, look: Look) -> dict[str, RawExpr]:
        """Return where a part is computed."""
        if look is Look.ROW or is_member_of_lists(raw, self.schema):
            return self.local
        if shape_of(raw) is Shape.SCALAR:
            return self.scalars
        if is_over_all_rows(raw):
            return self.in_order
        if is_rank(raw):
            return self.ranks
        if is_decaying(raw, self.schema):
            return self.decaying
        if is_rolling_by(raw):
            return self.by_time
        places = {Look.NEAR: self.near, Look.CARRIED: self.carried, Look.GROUP: self.groups, Look.AGGREGATE: self.scalars}
        place = places.get(look)
        if place is not None:
            return place
        if look is Look.WHOLE and shape_of(raw) is Shape.COLUMN and kind_of(raw) != "Over":
            return self.vectors
        raise NotDistributedError("it looks at the whole column", raw)
