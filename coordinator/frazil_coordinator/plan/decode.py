"""Give the nodes of an arena their types. Next: :mod:`~frazil_coordinator.plan.distribute` plans node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, TypedDict, cast

from frazil_coordinator.plan.nodes import (
    AsofJoin,
    Cache,
    DataFrameScan,
    Distinct,
    Filter,
    Gather,
    GroupBy,
    HConcat,
    HStack,
    Join,
    MapFunction,
    MatchToSchema,
    MergeSorted,
    Node,
    Opaque,
    Pivot,
    RawExpr,
    Scan,
    Select,
    Slice,
    Sort,
    Union,
)
from frazil_functions.arena import Arena, Raw

__all__ = ["decode_node"]

_UNBOUNDED: Final = 2**32 - 1
"""Polars writes an unbounded length as the largest row index."""


class _Common(TypedDict):
    number: int
    inputs: tuple[int, ...]
    raw: Raw


_Decoder: TypeAlias = Callable[[_Common, Raw], Node]


def decode_node(arena: Arena, number: int) -> Node:
    """Return node `number` of `arena` as a typed value; a node that is not as expected becomes :class:`Opaque`."""
    kind = arena.kind(number)
    common = _Common(number=number, inputs=tuple(arena.inputs(number)), raw=arena.nodes[number])
    decoder = _DECODERS.get(kind)
    if decoder is not None:
        try:
            return decoder(common, arena.payload(number))
        except (KeyError, TypeError, AttributeError, ValueError):
            # The members differ from those of the polars version this was written for.
            return Opaque(kind=f"{kind} of an unknown form", **common)
    return Opaque(kind=kind, **common)


def _exprs(value: object) -> tuple[RawExpr, ...]:
    return tuple(cast("list[RawExpr]", value))


def _map(value: object) -> Raw:
    return cast("Raw", value)


def _scan(common: _Common, payload: Raw) -> Node:
    sources = _map(payload["sources"])
    paths = sources.get("Paths")
    names = [str(path["inner"]) if isinstance(path, dict) else str(path) for path in cast("list[object]", paths or [])]
    scan_type = payload["scan_type"]
    return Scan(
        paths=tuple(names),
        format=next(iter(_map(scan_type))) if isinstance(scan_type, dict) else str(scan_type),
        buffers=sum(len(buffer) for buffer in cast("list[list[int]]", sources.get("Buffers") or ())),
        **common,
    )


def _filter(common: _Common, payload: Raw) -> Node:
    return Filter(predicate=payload["predicate"], **common)


def _select(common: _Common, payload: Raw) -> Node:
    return Select(exprs=_exprs(payload["expr"]), **common)


def _hstack(common: _Common, payload: Raw) -> Node:
    return HStack(exprs=_exprs(payload["exprs"]), **common)


def _group_by(common: _Common, payload: Raw) -> Node:
    options = _map(payload["options"])
    bare = all(options[name] is None for name in ("dynamic", "rolling", "slice"))
    return GroupBy(
        keys=_exprs(payload["keys"]),
        aggs=_exprs(payload["aggs"]),
        predicates=_exprs(payload["predicates"]),
        maintain_order=bool(payload["maintain_order"]),
        plain=bare and payload["apply"] is None,
        mapped=bare and payload["apply"] is not None,
        **common,
    )


_BY_PREDICATES: Final = {"Inner": "Where", "Left": "LeftWhere", "Right": "RightWhere", "Full": "FullWhere"}


def _join(common: _Common, payload: Raw) -> Node:
    args = _map(_map(payload["options"])["args"])
    condition = _map(payload["condition"])
    how = args["how"]
    if "NonEqui" in condition and how in _BY_PREDICATES and args["slice"] is None:
        return Join(
            how=_BY_PREDICATES[str(how)],
            left_on=(),
            right_on=(),
            predicates=_exprs(_map(condition["NonEqui"])["predicates"]),
            maintain_order=str(args["maintain_order"]),
            validation=str(args["validation"]),
            nulls_equal=bool(args["nulls_equal"]),
            **common,
        )
    if isinstance(how, dict) and "AsOf" in how and "Equi" in condition and args["slice"] is None:
        return _asof_join(common, _map(condition["Equi"]), _map(how["AsOf"]))
    if "Equi" not in condition or args["slice"] is not None or not isinstance(how, str):
        return Opaque(kind=f"Join on {'/'.join(condition)} {how}", **common)
    on = _map(condition["Equi"])
    return Join(
        how=how,
        left_on=_exprs(on["left_on"]),
        right_on=_exprs(on["right_on"]),
        maintain_order=str(args["maintain_order"]),
        validation=str(args["validation"]),
        nulls_equal=bool(args["nulls_equal"]),
        **common,
    )


def _asof_join(common: _Common, on: Raw, options: Raw) -> Node:
    by = [tuple(cast("list[str]", options[side] or ())) for side in ("left_by", "right_by")]
    return AsofJoin(
        left_on=_exprs(on["left_on"]),
        right_on=_exprs(on["right_on"]),
        left_by=by[0],
        right_by=by[1],
        check_sortedness=bool(options["check_sortedness"]),
        **common,
    )


def _sort(common: _Common, payload: Raw) -> Node:
    options = _map(payload["sort_options"])
    by = _exprs(payload["by_column"])
    if payload["slice"] is not None:
        return Opaque(kind="Sort with a slice", **common)

    def each(value: object) -> tuple[bool, ...]:
        flags = tuple(bool(flag) for flag in cast("list[object]", value))
        return flags * len(by) if len(flags) == 1 else flags

    limit = options["limit"]
    return Sort(
        by=by,
        descending=each(options["descending"]),
        nulls_last=each(options["nulls_last"]),
        maintain_order=bool(options["maintain_order"]),
        limit=cast("int | None", limit),
        **common,
    )


def _slice(common: _Common, payload: Raw) -> Node:
    length = cast("int | None", payload["len"])
    unbounded = length is None or length >= _UNBOUNDED
    return Slice(offset=cast("int", payload["offset"]), length=None if unbounded else length, **common)


def _distinct(common: _Common, payload: Raw) -> Node:
    options = _map(payload["options"])
    subset = options["subset"]
    return Distinct(
        subset=None if subset is None else _exprs(subset),
        maintain_order=bool(options["maintain_order"]),
        keep=str(options["keep_strategy"]),
        **common,
    )


def _map_function(common: _Common, payload: Raw) -> Node:
    function = payload["function"]
    return MapFunction(function=next(iter(function)) if isinstance(function, dict) else str(function), **common)


def _data_frame_scan(common: _Common, payload: Raw) -> Node:
    del payload
    return DataFrameScan(**common)


def _union(common: _Common, payload: Raw) -> Node:
    return Union(maintain_order=bool(_map(payload["args"])["maintain_order"]), **common)


def _hconcat(common: _Common, payload: Raw) -> Node:
    options = _map(payload["options"])
    return HConcat(strict=bool(options["strict"]), broadcasts=bool(options["broadcast_unit_length"]), **common)


def _merge_sorted(common: _Common, payload: Raw) -> Node:
    return MergeSorted(key=tuple(str(name) for name in cast("list[object]", payload["key"])), **common)


def _pivot(common: _Common, payload: Raw) -> Node:
    index: RawExpr = {"Selector": payload["index"]}
    return Pivot(index=index, agg=payload["agg"], maintain_order=bool(payload["maintain_order"]), **common)


def _gather(common: _Common, payload: Raw) -> Node:
    del payload
    return Gather(**common)


def _match_to_schema(common: _Common, payload: Raw) -> Node:
    missing = [_map(column)["missing_columns"] for column in cast("list[object]", payload["per_column"])]
    return MatchToSchema(defaults=tuple(one["InsertWith"] for one in missing if isinstance(one, dict)), **common)


def _cache(common: _Common, payload: Raw) -> Node:
    del payload
    return Cache(**common)


_DECODERS: Final[dict[str, _Decoder]] = {
    "Scan": _scan,
    "DataFrameScan": _data_frame_scan,
    "Filter": _filter,
    "Select": _select,
    "HStack": _hstack,
    "GroupBy": _group_by,
    "Join": _join,
    "Sort": _sort,
    "Slice": _slice,
    "Distinct": _distinct,
    "Union": _union,
    "HConcat": _hconcat,
    "MergeSorted": _merge_sorted,
    "Pivot": _pivot,
    "Gather": _gather,
    "MatchToSchema": _match_to_schema,
    "MapFunction": _map_function,
    "Cache": _cache,
}
