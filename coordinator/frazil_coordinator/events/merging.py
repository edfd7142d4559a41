"""Mode incremental: aggregates of the new objects are merged into those kept, and the result is made of what is kept.

The query's aggregate (a group_by, or a select that aggregates all rows) is taken apart as the planner takes it apart
(:func:`~frazil_coordinator.plan.decompose.decompose`): *partial* aggregates over rows, and *final* expressions over partial
ones. Kept are partial aggregates, one row a group. Two more are merged into one by the partial's own final expression (a
sum of sums), or, for the mean and the squared differences of a variance, by Chan, Golub and LeVeque. What stands above the
aggregate (a sort, a filter, more columns) is run over the whole result each time; what stands below must look at each row
by itself.

Pure, but for the footer that Polars reads to know the columns. Next: :mod:`frazil_coordinator.events.windows` runs the two
plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import polars as pl

from frazil_coordinator.events.preparing import Target, over_objects
from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import alias_of, from_expr, is_row_wise, members, substitute, to_expr, walk
from frazil_coordinator.plan.nodes import Filter, GroupBy, HStack, RawExpr, Scan, Select
from frazil_coordinator.plan.sql import expand_sql
from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import QueryError, RequestError
from frazil_functions.sink import sink_options

__all__ = ["Merging"]

_KEPT: Final = "__kept_"
"""What the columns of partial aggregates begin with."""

_BY_ORDER: Final = frozenset({"First", "Last", "Implode", "Item"})
_ADVICE: Final = "use mode refresh, which runs the whole query and reuses what has not changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """The query of a trigger, taken apart."""

    rows: pl.LazyFrame
    """Of the new objects, below the aggregate."""

    keys: tuple[pl.Expr, ...]
    """None when all rows are aggregated."""

    names: tuple[str, ...]
    """Of the keys."""

    partial: tuple[pl.Expr, ...]
    merge: tuple[pl.Expr, ...]
    final: tuple[pl.Expr, ...]
    schema: pl.Schema
    """Of the aggregate."""

    above: Arena
    """The plan, whose aggregate is the node `aggregate`."""

    aggregate: int

    @classmethod
    def of(cls, plan: bytes, source: str, urls: list[str]) -> Merging:
        """Take a plan apart.

        Parameters
        ----------
        plan, source
            The trigger's.
        urls
            The new objects, one at least.

        Raises
        ------
        RequestError
            When it can't be; the message says why.
        QueryError
            When Polars can't tell the columns of the objects.
        """
        try:
            return cls._of(plan, source, urls)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise QueryError(str(error), exception=type(error).__name__) from error

    @classmethod
    def _of(cls, plan: bytes, source: str, urls: list[str]) -> Merging:
        arena = Arena.decode(over_objects(plan, source, urls))
        arena.refuse_python("mode incremental takes no Python functions")
        arena.lazy(*arena.inputs(arena.root)).collect_schema()  # what is wrong with the objects is not said by what follows
        expand_sql(arena)
        number = _aggregate(arena)
        node = decode_node(arena, number)
        (below,) = arena.inputs(number)
        _check_rows(arena, below)
        rows = arena.lazy(below)
        if isinstance(node, GroupBy):
            if node.predicates or not node.plain or not node.keys or not all(map(is_row_wise, node.keys)):
                raise RequestError(f"this group_by can't be merged: keys must be columns or row-wise expressions; {_ADVICE}")
            keys, aggs, grouped = tuple(map(to_expr, node.keys)), node.aggs, True
        else:
            keys, aggs, grouped = (), cast("Select", node).exprs, False
        names = tuple(rows.select(keys).collect_schema().names()) if keys else ()
        parts = decompose(aggs, rows, grouped=grouped, exclude=names)
        if parts is None:
            raise RequestError(f"these aggregates can't be merged (median, n_unique and such need all rows); {_ADVICE}")
        partial = [_unnamed(from_expr(expr)) for expr in parts.partial]
        if any(kind in _BY_ORDER for raw in partial for one in walk(raw) for kind in _kinds(one)):
            raise RequestError(f"first, last and implode depend on the order of rows, and objects come in any; {_ADVICE}")
        own = {expr.meta.output_name(): f"{_KEPT}{index}" for index, expr in enumerate(parts.partial)}
        return cls(
            rows=rows,
            keys=keys,
            names=names,
            partial=tuple(to_expr(raw).alias(f"{_KEPT}{index}") for index, raw in enumerate(partial)),
            merge=tuple(_merged(index, partial, rows, grouped=grouped) for index in range(len(partial))),
            final=tuple(to_expr(_renamed(from_expr(expr), own)) for expr in parts.final),
            schema=arena.lazy(number).collect_schema(),
            above=arena,
            aggregate=number,
        )

    def kept_plan(self, kept: str, place: str, target: Target) -> bytes:
        """Return the plan that merges the new objects into what is kept.

        Parameters
        ----------
        kept
            Path or URL of the file that holds what is kept; empty when nothing is.
        place
            Where the merged aggregates go: one file.
        target
            Of the trigger, for the credentials.
        """
        new = self.rows.group_by(self.keys).agg(self.partial) if self.keys else self.rows.select(self.partial)
        schema = new.collect_schema()
        both = pl.concat([_scan(kept, target, schema), new]) if kept else new
        merged = both.group_by(self.names).agg(self.merge) if self.names else both.select(self.merge)
        typed = merged.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
        sunk = Arena.of(typed.sink_parquet(place, lazy=True, mkdir=True, credential_provider=None))
        sink_options(sunk.nodes[sunk.root])["cloud_options"] = target.sink.cloud_options
        return sunk.encode()

    def result_plan(self, kept: str, target: Target) -> bytes:
        """Return the trigger's plan over what is kept: with its sink, for no place yet."""
        schema = pl.Schema(
            (
                self.rows.group_by(self.keys).agg(self.partial) if self.keys else self.rows.select(self.partial)
            ).collect_schema()
        )
        scan = _scan(kept, target, schema)
        made = scan.group_by(self.names).agg(self.final) if self.names else scan.select(self.final)
        typed = made.select(pl.col(name).cast(dtype) for name, dtype in self.schema.items())
        top = self.above.append(Arena.of(typed))
        self.above.redirect({self.aggregate: top})
        return self.above.encode()


def _aggregate(arena: Arena) -> int:
    """Return the node that aggregates: the first one from above that does."""
    number = arena.root
    while True:
        node = decode_node(arena, number)
        if isinstance(node, GroupBy):
            return number
        if isinstance(node, Select) and not all(map(is_row_wise, node.exprs)):
            return number
        inputs = arena.inputs(number)
        if len(inputs) != 1:
            raise RequestError(
                f"mode incremental needs a query that aggregates: a group_by, or a select of aggregates; {_ADVICE}"
            )
        (number,) = inputs


def _check_rows(arena: Arena, root: int) -> None:
    """Refuse what does not look at each row by itself: its rows of old and new objects are not those of both together."""
    for number in arena.reachable(root):
        node = decode_node(arena, number)
        fine = (
            (isinstance(node, Scan) and _reads_rows_alone(arena, number))
            or (isinstance(node, Filter) and is_row_wise(node.predicate))
            or (isinstance(node, (Select, HStack)) and all(map(is_row_wise, node.exprs)))
        )
        if not fine:
            raise RequestError(f"{arena.kind(number)} below the aggregate may look at several objects at once; {_ADVICE}")


def _reads_rows_alone(arena: Arena, number: int) -> bool:
    """Return whether a scan reads the new objects, and neither counts their rows nor takes only some."""
    args = cast("Raw", arena.payload(number)["unified_scan_args"])
    return bool(arena.scan_paths(number)) and args.get("row_index") is None and args.get("pre_slice") is None


def _merged(index: int, partial: list[RawExpr], rows: pl.LazyFrame, *, grouped: bool) -> pl.Expr:
    """Return what merges the values of one partial aggregate."""
    raw, column = partial[index], pl.col(f"{_KEPT}{index}")
    again = decompose([raw], rows, grouped=grouped)
    if again is not None and [_unnamed(from_expr(expr)) for expr in again.partial] == [raw]:
        (expr,) = again.final
        named = {again.partial[0].meta.output_name(): f"{_KEPT}{index}"}
        return to_expr(_renamed(_unnamed(from_expr(expr)), named)).alias(f"{_KEPT}{index}")
    for counts, other in enumerate(partial):
        if (counted := _counted(other)) is None:
            continue
        n, mean = pl.col(f"{_KEPT}{counts}"), from_expr(to_expr(counted).mean())
        if raw == mean:
            return ((n * column).sum() / n.sum()).fill_nan(None).alias(f"{_KEPT}{index}")
        if mean in partial and _is_squares(raw, counted):
            means = pl.col(f"{_KEPT}{partial.index(mean)}")
            total = (n * means).sum() / n.sum()
            return (column.sum() + (n * (means - total).pow(2)).sum()).alias(f"{_KEPT}{index}")
    raise RequestError(f"the aggregate {to_expr(raw)} can't be merged; {_ADVICE}")


def _counted(raw: RawExpr) -> RawExpr | None:
    """Return what an aggregate counts; None when it does not."""
    inner = members(raw)
    count = cast("Raw", inner).get("Count") if isinstance(inner, dict) else None
    return None if not isinstance(count, dict) or count.get("include_nulls") else count["input"]


def _is_squares(raw: RawExpr, counted: RawExpr) -> bool:
    values = to_expr(counted)
    return any(raw == from_expr(values.var(ddof=ddof) * values.count()) for ddof in (0, 1))


def _renamed(raw: RawExpr, names: dict[str, str]) -> RawExpr:
    def replace(one: RawExpr) -> RawExpr | None:
        if isinstance(one, dict) and one.keys() == {"Column"} and one["Column"] in names:
            return {"Column": names[str(one["Column"])]}
        return None

    return substitute(raw, replace)


def _unnamed(raw: RawExpr) -> RawExpr:
    found = alias_of(raw)
    return raw if found is None else found[0]


def _kinds(raw: RawExpr) -> list[str]:
    inner = members(raw)
    return [str(kind) for kind in inner] if isinstance(inner, dict) else []


def _scan(kept: str, target: Target, schema: pl.Schema) -> pl.LazyFrame:
    """Return a scan of what is kept, with the credentials of the output."""
    scan = Arena.of(pl.scan_parquet(kept, schema=schema, credential_provider=None, glob=False))
    args = cast("Raw", scan.payload(scan.root)["unified_scan_args"])
    if target.sink.cloud_options is not None:
        args["cloud_options"] = target.sink.cloud_options
    return scan.lazy()
