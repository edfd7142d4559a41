"""Row-wise nodes: they stay in the stage of their input, wherever its rows lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import alias_of, is_literal, is_row_wise, kind_of, plain_column, to_expr
from frazil_coordinator.plan.nodes import Cache, Filter, HStack, MapFunction, Node, RawExpr, Select
from frazil_coordinator.plan.relation import ANY, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import distribute, run_single
from frazil_coordinator.plan.rules.groups import aggregate_all
from frazil_coordinator.plan.rules.positions import moved_rows
from frazil_coordinator.plan.rules.reshape import unpivot
from frazil_coordinator.plan.rules.running import number_rows, over_running
from frazil_coordinator.plan.rules.scalars import lift, reads_a_column, with_scalars
from frazil_coordinator.plan.rules.stats import statistics
from frazil_coordinator.plan.rules.udfs import map_batches
from frazil_coordinator.plan.rules.windows import over_windows
from frazil_functions.arena import Raw

__all__ = ["describe"]

_ROW_WISE_FUNCTIONS: Final = frozenset({"Rename", "Explode", "Unnest"})


@distribute.register
def _(node: Cache, context: Context, inputs: Sequence[Relation]) -> Relation:
    del node, context
    return inputs[0]


@distribute.register
def _(node: Filter, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = f"FILTER {describe(node.predicate)}"
    if rows.is_single or is_row_wise(node.predicate):
        return rows.then(apply(node.raw, [rows.lf]), operator, divisible=is_row_wise(node.predicate))
    lifted = lift([node.predicate], rows.lf)
    if lifted is not None and (mixed := with_scalars(lifted, context, rows)) is not None:
        kept = mixed.lf.filter(lifted.exprs[0]).drop(list(lifted.scalars))
        return mixed.then(kept, operator)
    if (windowed := over_windows(node, [node.predicate], context, rows, operator)) is not None:
        return windowed
    return run_single(node, context, inputs, f"filter looks at more than one row: {describe(node.predicate)}", operator)


@distribute.register
def _(node: Select, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = "SELECT " + ", ".join(describe(raw) for raw in node.exprs)
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), operator)
    if all(map(is_row_wise, node.exprs)) and not all(map(is_literal, node.exprs)):
        selected = rows.then(apply(node.raw, [rows.lf]), operator, keeps_rows=True, divisible=True)
        return replace(selected, distribution=_after_select(rows, node.exprs))
    if (aggregated := aggregate_all(node, context, rows)) is not None:
        return aggregated
    lifted = lift(node.exprs, rows.lf)
    if lifted is not None and not any(reads_a_column(expr, rows.schema.names()) for expr in lifted.exprs):
        lifted = None  # one row, whatever the input
    if lifted is not None and (mixed := with_scalars(lifted, context, rows)) is not None:
        return mixed.then(mixed.lf.select(lifted.exprs), operator, distribution=ANY)
    if (windowed := over_windows(node, node.exprs, context, rows, operator)) is not None:
        return windowed
    if (running := over_running(node, context, rows, operator)) is not None:
        return running
    if (moved := moved_rows(node, context, rows, operator)) is not None:
        return moved
    culprit = _culprit(node, rows)
    return run_single(node, context, inputs, f"select looks at more than one row: {describe(culprit)}", operator)


def _culprit(node: Select, rows: Relation) -> RawExpr:
    """Return the expression for which a select can't be distributed: the one that can't be aggregated in two steps."""
    alone = [raw for raw in node.exprs if decompose([raw], rows.lf, grouped=False) is None]
    looking = [raw for raw in alone if not is_row_wise(raw)]
    return next(iter([*looking, *alone, *node.exprs]))


@distribute.register
def _(node: HStack, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = "WITH COLUMNS " + ", ".join(describe(raw) for raw in node.exprs)
    if not rows.is_single and not all(map(is_row_wise, node.exprs)):
        lifted = lift(node.exprs, rows.lf)
        if lifted is not None and (mixed := with_scalars(lifted, context, rows)) is not None:
            widened = mixed.lf.with_columns(lifted.exprs).drop(list(lifted.scalars))
            return mixed.then(widened, operator, distribution=ANY)
        if (windowed := over_windows(node, node.exprs, context, rows, operator)) is not None:
            return windowed
        if (running := over_running(node, context, rows, operator)) is not None:
            return running
        culprit = next(raw for raw in node.exprs if not is_row_wise(raw))
        reason = f"with_columns looks at more than one row: {describe(culprit)}"
        return run_single(node, context, inputs, reason, operator)
    written = set(rows.lf.select(*map(to_expr, node.exprs)).collect_schema()) if node.exprs else set[str]()
    kept = {name: name for name in rows.distribution.keys if name not in written}
    divisible = all(map(is_row_wise, node.exprs))
    stacked = rows.then(apply(node.raw, [rows.lf]), operator, keeps_rows=True, divisible=divisible)
    return replace(stacked, distribution=_renamed(rows.distribution, kept))


@distribute.register
def _(node: MapFunction, context: Context, inputs: Sequence[Relation]) -> Relation:
    if node.function == "RowIndex" and not inputs[0].is_single:
        body = cast("Raw", cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])["RowIndex"])
        return number_rows(context, inputs[0], name=str(body["name"]), offset=cast("int", body["offset"] or 0))
    own_rule = _FUNCTION_RULES.get(node.function)
    if own_rule is not None:
        return own_rule(node, context, inputs[0])
    if node.function not in _ROW_WISE_FUNCTIONS and not all(relation.is_single for relation in inputs):
        reason = f"{node.function} has no distributed form"
        return run_single(node, context, inputs, reason, _upper(node.function))
    (rows,) = inputs
    mapped = rows.then(
        apply(node.raw, [rows.lf]),
        _upper(node.function),
        keeps_rows=node.function == "Rename",
        divisible=node.function in _ROW_WISE_FUNCTIONS,
    )
    names = _names_after(node, rows)
    return replace(mapped, distribution=_renamed(rows.distribution, names))


def _hint(node: MapFunction, context: Context, rows: Relation) -> Relation:
    """Leave out what the user says of the rows: it speeds polars up, and holds for the whole frame, not for a part of it."""
    del context
    return rows.then(apply(node.raw, [rows.lf]), "HINT") if rows.is_single else rows


_FUNCTION_RULES: Final[dict[str, Callable[[MapFunction, Context, Relation], Relation]]] = {
    "OpaquePython": map_batches,
    "Unpivot": unpivot,
    "Stats": statistics,
    "Hint": _hint,
}


def _names_after(node: Node, rows: Relation) -> dict[str, str]:
    """Return old name → new name of the distribution's columns that a frame function keeps as they are."""
    function = cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])
    body = next(iter(function.values()))
    if "Rename" not in function or not isinstance(body, dict):
        return {}
    renamed = dict(zip(cast("list[str]", body["existing"]), cast("list[str]", body["new"]), strict=True))
    return {name: renamed.get(name, name) for name in rows.distribution.keys}


def _after_select(rows: Relation, exprs: Sequence[RawExpr]) -> Distribution:
    """Return the distribution after a select: its keys survive as bare or renamed columns."""
    names: dict[str, str] = {}
    for raw in exprs:
        aliased = alias_of(raw)
        if (column := plain_column(raw)) is not None:
            names.setdefault(column, column)
        elif aliased is not None and (column := plain_column(aliased[0])) is not None:
            names.setdefault(column, aliased[1])
        elif kind_of(raw) == "Selector":
            for name in rows.lf.select(to_expr(raw)).collect_schema():
                names.setdefault(name, name)
    return _renamed(rows.distribution, names)


def _renamed(distribution: Distribution, names: dict[str, str]) -> Distribution:
    """Return the distribution under new names of its keys; without all of them it says nothing."""
    if not distribution.keys:
        return distribution
    if not all(name in names for name in distribution.keys):
        return ANY
    return replace(distribution, keys=tuple(names[name] for name in distribution.keys))


def describe(raw: RawExpr, limit: int = 60) -> str:
    """Return an expression as text for people, at most `limit` characters."""
    text = " ".join(str(to_expr(raw)).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _upper(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip().upper()
