"""Row-wise nodes: they stay in the stage of their input, wherever its rows lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, cast

import polars as pl
import polars.selectors as cs
from polars.exceptions import PolarsError

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.exprs import (
    alias_of,
    expand,
    has_selector,
    is_row_wise,
    is_separable,
    kind_of,
    plain_column,
    to_expr,
    walk,
)
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.nodes import Cache, Filter, HStack, MapFunction, Node, RawExpr, Select
from frazil_coordinator.plan.relation import ANY, Distribution, Relation, apply
from frazil_coordinator.plan.rules.base import beside, combine, distribute, run_single
from frazil_coordinator.plan.rules.constants import made_of_single_values
from frazil_coordinator.plan.rules.errors import NotDistributedError, describe
from frazil_coordinator.plan.rules.exploded import exploded_windows
from frazil_coordinator.plan.rules.groups import aggregate_all
from frazil_coordinator.plan.rules.lifting import evaluate
from frazil_coordinator.plan.rules.positions import moved_rows
from frazil_coordinator.plan.rules.program import planned
from frazil_coordinator.plan.rules.reshape import unpivot
from frazil_coordinator.plan.rules.running import number_rows
from frazil_coordinator.plan.rules.stats import statistics
from frazil_coordinator.plan.rules.udfs import map_batches
from frazil_coordinator.plan.rules.vectors import vector, vectors_abreast
from frazil_functions.arena import Raw

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
    try:
        done = evaluate([node.predicate], rows, context, ordered=node.number in context.ordered)
    except NotDistributedError as error:
        return run_single(node, context, inputs, f"filter looks at more than one row: {error}", operator)
    wide = done.relation if not done.scalar else beside(rows, context.broadcast(done.relation))
    return wide.then(wide.lf.filter(*done.exprs).drop(done.helpers), operator)


@distribute.register
def _(node: Select, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = "SELECT " + ", ".join(describe(raw) for raw in node.exprs)
    if rows.is_single:
        return rows.then(apply(node.raw, [rows.lf]), operator)
    if all(map(is_row_wise, node.exprs)) and any(map(_has_column, node.exprs)):
        selected = rows.then(apply(node.raw, [rows.lf]), operator, keeps_rows=True, divisible=True)
        return replace(selected, distribution=_after_select(rows, node.exprs))
    if all(map(is_row_wise, node.exprs)):  # one row of constants; polars does not run the input either
        constants = apply(node.raw, [pl.LazyFrame(schema=rows.schema)])
        return replace(combine([]), lf=constants, kind="scan", operators=(operator,))
    if len(node.exprs) == 1 and is_separable(node.exprs[0]) and not has_selector(node.exprs[0]):
        return rows.then(apply(node.raw, [rows.lf]), operator, distribution=ANY)
    if (aggregated := aggregate_all(node, context, rows)) is not None:
        return aggregated
    if (made := _of_other_numbers(node, context, rows, operator)) is not None:
        return made
    if (moved := moved_rows(node, context, rows, operator)) is not None:
        return moved
    if (listed := _vectors(node, context, rows)) is not None:
        return listed
    try:
        done = evaluate(node.exprs, rows, context, ordered=node.number in context.ordered)
    except NotDistributedError as error:
        return run_single(node, context, inputs, f"select looks at more than one row: {error}", operator)
    distribution = None if done.scalar else ANY
    return done.relation.then(done.relation.lf.select(done.exprs), operator, distribution=distribution)


def _has_column(raw: RawExpr) -> bool:
    return any(kind_of(part) in ("Column", "Selector") for part in walk(raw))


def _singles(node: Select, rows: Relation) -> list[RawExpr] | None:
    """Return the expressions of a select without selectors; None when polars can't name what they stand for."""
    try:
        singles = [single for raw in node.exprs for single in expand(raw, rows.schema)]
        for single in singles:
            to_expr(single).meta.output_name()  # which raises where polars gives several columns
    except (PolarsError, ValueError):
        return None
    return singles


def _of_other_numbers(node: Select, context: Context, rows: Relation, operator: str) -> Relation | None:
    """Return the relation of a select that looks at single values of the rows only; None of any other."""
    singles = _singles(node, rows)
    return None if singles is None else made_of_single_values(singles, rows, context, operator)


def _vectors(node: Select, context: Context, rows: Relation) -> Relation | None:
    """Return the relation of a select of expressions with a number of values of their own, when there is a plan for each."""
    singles = _singles(node, rows)
    if singles is None or all(map(is_row_wise, singles)):
        return None
    if (exploded := exploded_windows(singles, rows, context)) is not None:
        return exploded
    if len(singles) == 1:
        return vector(singles[0], rows, context)
    if not any(shape_of(single) is Shape.OTHER for single in singles):
        return None
    return vectors_abreast(singles, rows, context)


@distribute.register
def _(node: HStack, context: Context, inputs: Sequence[Relation]) -> Relation:
    (rows,) = inputs
    operator = "WITH COLUMNS " + ", ".join(describe(raw) for raw in node.exprs)
    if rows.is_single or all(map(is_row_wise, node.exprs)):
        divisible = all(map(is_row_wise, node.exprs))
        stacked = rows.then(apply(node.raw, [rows.lf]), operator, keeps_rows=divisible, divisible=divisible)
        return replace(stacked, distribution=_after_stack(rows.distribution, rows, node))
    try:
        done = evaluate(node.exprs, rows, context, ordered=node.number in context.ordered)
    except NotDistributedError as error:
        return run_single(node, context, inputs, f"with_columns looks at more than one row: {error}", operator)
    wide = done.relation if not done.scalar else beside(rows, context.broadcast(done.relation))
    stacked = wide.then(wide.lf.with_columns(done.exprs).drop(done.helpers), operator)
    return replace(stacked, distribution=_after_stack(wide.distribution, rows, node))


def _after_stack(distribution: Distribution, rows: Relation, node: HStack) -> Distribution:
    """Return the distribution without the columns that are written anew."""
    written = set(rows.lf.select(*map(to_expr, node.exprs)).collect_schema()) if node.exprs else set[str]()
    return _renamed(distribution, {name: name for name in distribution.keys if name not in written})


@distribute.register
def _(node: MapFunction, context: Context, inputs: Sequence[Relation]) -> Relation:
    if node.function == "RowIndex" and not inputs[0].is_single:
        body = cast("Raw", _body(node, "RowIndex"))
        return number_rows(context, inputs[0], name=str(body["name"]), offset=cast("int", body["offset"] or 0))
    own_rule = _FUNCTION_RULES.get(node.function)
    if own_rule is not None:
        return own_rule(node, context, inputs[0])
    if node.function == "FillNan" and not (inputs[0].is_single or _is_row_wise_function(node)):
        value = to_expr(_body(node, "FillNan"))
        return planned(lambda lf: lf.with_columns(cs.float().fill_nan(value)), inputs[0], context)
    if not _is_row_wise_function(node) and not all(relation.is_single for relation in inputs):
        reason = f"{node.function} has no distributed form"
        return run_single(node, context, inputs, reason, _upper(node.function))
    (rows,) = inputs
    mapped = rows.then(
        apply(node.raw, [rows.lf]),
        _upper(node.function),
        keeps_rows=node.function == "Rename",
        divisible=_is_row_wise_function(node),
    )
    names = _names_after(node, rows)
    return replace(mapped, distribution=_renamed(rows.distribution, names))


def _is_row_wise_function(node: MapFunction) -> bool:
    if node.function == "FillNan":
        return is_row_wise(_body(node, "FillNan"))
    return node.function in _ROW_WISE_FUNCTIONS


def _body(node: MapFunction, function: str) -> RawExpr:
    """Return what a function of the frame is given."""
    return cast("Raw", cast("Raw", node.raw["MapFunction"])["function"])[function]


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


def _upper(name: str) -> str:
    return "".join(f" {letter}" if letter.isupper() else letter for letter in name).strip().upper()
