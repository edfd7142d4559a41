"""Which row groups and files a predicate can't match, told by Parquet statistics and by the names of folders (hive).

A row group is left out only when it is certain that the predicate is true for none of its rows. What is not a comparison of
a column with a literal, or a conjunction or disjunction of such, says nothing; nor does a statistic that is missing, or
whose dtype orders or rounds in ways of its own. The comparisons themselves are made by polars, on frames of minima and
maxima. What is left is cut by :mod:`~frazil_coordinator.plan.tables`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, cast
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PanicException, PolarsError

from frazil_coordinator.plan.exprs import from_expr, is_literal, is_row_wise, kind_of, members, plain_column, to_expr
from frazil_coordinator.plan.field_ids import ids_of_columns, names_in_file
from frazil_coordinator.plan.footers import Footer
from frazil_coordinator.plan.nodes import RawExpr
from frazil_coordinator.plan.tables import Table
from frazil_functions.arena import Raw
from frazil_functions.scan_files import FileStat

__all__ = ["prune"]

_NULL_FOLDER: Final = "__HIVE_DEFAULT_PARTITION__"
_UNITS: Final = {"milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns"}
_MIRRORED: Final = {"Gt": "Lt", "GtEq": "LtEq", "Lt": "Gt", "LtEq": "GtEq", "Eq": "Eq"}
_MOST_VALUES: Final = 100
"""Values of an `is_in` that are looked for one by one; more are taken as the range between the least and the greatest."""


def prune(table: Table, predicates: Sequence[pl.Expr]) -> Table:
    """Return the table without the row groups that no row of which matches any of the predicates.

    Parameters
    ----------
    table
        The table.
    predicates
        What reaches the scan, one a use of it: a row is looked at when one of them is true.
    """
    groups = [
        (number, position) for number, footer in enumerate(table.footers) for position in range(len(footer.row_groups))
    ]
    if not predicates or not groups:
        return table
    kept: set[int] = set()
    for predicate in predicates:
        found = _matching(table, groups, from_expr(predicate))
        if found is None:
            return table
        kept.update(found)
    if len(kept) == len(groups):
        return table
    left: list[list[int]] = [[] for _ in table.footers]
    for index in sorted(kept):
        number, position = groups[index]
        left[number].append(position)
    footers = tuple(footer.only(positions) for footer, positions in zip(table.footers, left, strict=True))
    return replace(table, footers=footers)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is known of the row groups of a table, as frames of one row a row group."""

    table: Table
    groups: Sequence[tuple[int, int]]
    hive: tuple[str, ...]
    """Columns that come from the names of folders."""

    ids: Mapping[str, int] | None
    """Numbers of the columns, by which they are found in files that have other names for them (Iceberg); None: by name."""

    def bounds(self, name: str) -> pl.DataFrame:
        """Return the columns ``min``, ``max``, ``nulls`` and ``rows`` for a column; null is unknown."""
        if name in self.hive:
            values = self.folder(name)
            known = [(value, value, 0 if is_known else None) for value, is_known in values]
            known = [(low, high, None if low is None else nulls) for low, high, nulls in known]
        else:
            dtype, names = self.table.schema[name], [self._in_file(footer, name) for footer in self.table.footers]
            known = [
                _statistics(self.table.footers[number], position, names[number], dtype) for number, position in self.groups
            ]
        dtype = self.table.schema[name]
        return pl.DataFrame(
            {
                "min": _series([low for low, _, _ in known], dtype),
                "max": _series([high for _, high, _ in known], dtype),
                "nulls": pl.Series([nulls for _, _, nulls in known], dtype=pl.Int64),
                "rows": pl.Series(
                    [self.table.footers[number].row_groups[position].rows for number, position in self.groups],
                    dtype=pl.Int64,
                ),
            }
        )

    def _in_file(self, footer: Footer, name: str) -> str | None:
        """Return what a file calls a column; None when it has none, or nobody knows."""
        if self.ids is None:
            return name
        metadata = None if footer.parquet is None else footer.parquet.metadata
        return names_in_file(metadata).get(self.ids[name]) if name in self.ids else None

    def folder(self, name: str) -> list[tuple[object, bool]]:
        """Return each row group's value of a hive column, and whether it is known."""
        dtype = self.table.schema[name]
        texts = [_folder_value(self.table.files[number], self.table.hive_start, name) for number, _ in self.groups]
        if not (dtype.is_integer() or dtype in (pl.String, pl.Date)):
            return [(None, False)] * len(texts)
        values = pl.Series([text for text, _ in texts], dtype=pl.String).cast(dtype, strict=False).to_list()
        return [
            (value, is_known and (value is not None or text is None))
            for (text, is_known), value in zip(texts, values, strict=True)
        ]


def _folder_value(file: FileStat, start: int, name: str) -> tuple[str | None, bool]:
    """Return the text that the folders of a file give a column (None: null), and whether it is the only one."""
    found = [folder.partition("=")[2] for folder in file.path[start:].split("/")[:-1] if folder.partition("=")[0] == name]
    if len(found) != 1 or "=" in found[0]:
        return None, False
    return (None if found[0] == _NULL_FOLDER else unquote(found[0])), True


def _series(values: list[object], dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, (pl.Date, pl.Datetime)) and all(value is None or isinstance(value, int) for value in values):
        physical = pl.Int32 if isinstance(dtype, pl.Date) else pl.Int64
        return pl.Series(values, dtype=physical).cast(dtype)
    return pl.Series(values, dtype=dtype)


_Bounds = tuple[object, object, int | None]


def _statistics(footer: Footer, position: int, name: str | None, dtype: pl.DataType) -> _Bounds:
    """Return minimum, maximum and number of nulls of a column in a row group; None for what is not known."""
    unknown: _Bounds = (None, None, None)
    column = None if name is None else footer.columns.get(name)
    if footer.parquet is None or column is None:
        return unknown
    group = footer.row_groups[position]
    statistics = footer.parquet.metadata.row_group(group.number).column(column).statistics
    if statistics is None:
        return unknown
    has_nulls = bool(statistics.has_null_count)  # type: ignore[attr-defined]  # missing in the stubs
    nulls = statistics.null_count if has_nulls else None
    if not statistics.has_min_max or not _is_ordered(dtype):
        return None, None, nulls
    try:
        low, high = _values(statistics, dtype)
    except (pa.ArrowException, ValueError, OverflowError, UnicodeDecodeError):
        return None, None, nulls
    if dtype.is_float() and any(isinstance(value, float) and math.isnan(value) for value in (low, high)):
        return None, None, nulls
    return low, high, nulls


def _is_ordered(dtype: pl.DataType) -> bool:
    """Return whether minima and maxima of Parquet order values as polars does, and come back exactly."""
    return (
        dtype.is_integer()
        or dtype.is_float()
        or isinstance(dtype, (pl.Date, pl.Datetime, pl.String, pl.Boolean, pl.Decimal))
    )


def _values(statistics: pq.Statistics, dtype: pl.DataType) -> tuple[object, object]:
    if isinstance(dtype, pl.Date):
        is_date = statistics.logical_type.type == "DATE"
        return (statistics.min_raw, statistics.max_raw) if is_date else (None, None)
    if isinstance(dtype, pl.Datetime):
        # As numbers: Python's datetimes have no nanoseconds, and a maximum must not be rounded down.
        kind = statistics.logical_type.to_json()
        same = any(f'"{name}"' in kind and unit == dtype.time_unit for name, unit in _UNITS.items())
        exact = statistics.physical_type == "INT64" and statistics.logical_type.type == "TIMESTAMP" and same
        return (statistics.min_raw, statistics.max_raw) if exact else (None, None)
    low, high = statistics.min, statistics.max
    expected: tuple[type, ...] = (int, float)
    if isinstance(dtype, pl.String):
        expected = (str,)
    elif isinstance(dtype, pl.Decimal):
        return low, high
    return (low, high) if isinstance(low, expected) and isinstance(high, expected) else (None, None)


def _matching(table: Table, groups: Sequence[tuple[int, int]], raw: RawExpr) -> list[int] | None:
    """Return the numbers of the row groups in which the predicate may be true; None when it says nothing."""
    options = cast("Raw", cast("Raw", table.scan["Scan"])["unified_scan_args"])
    hive = cast("Raw", options["hive_options"])
    schema = cast("Raw", cast("Raw", hive["schema"])["fields"]) if hive["enabled"] and hive["schema"] else {}
    added = {options.get("include_file_paths"), cast("Raw", options.get("row_index") or {}).get("name")}
    ids = None if options.get("column_mapping") is None else ids_of_columns(options)
    facts = _Facts(table, groups, tuple(name for name in schema if name not in added), ids)
    may = _may_be_true(raw, facts)
    return None if may is None else may.arg_true().to_list()


def _may_be_true(raw: RawExpr, facts: _Facts) -> pl.Series | None:
    """Return for each row group whether the predicate may be true in it; None when nothing is known."""
    kind, inner = kind_of(raw), members(raw)
    if kind == "BinaryExpr" and isinstance(inner, dict) and inner["op"] in ("And", "LogicalAnd", "Or", "LogicalOr"):
        left, right = (_may_be_true(inner[side], facts) for side in ("left", "right"))
        if inner["op"] in ("And", "LogicalAnd"):
            return right if left is None else left if right is None else left & right
        return None if left is None or right is None else left | right
    try:
        if (exact := _of_folders(raw, facts)) is not None:
            return exact
        condition = _condition(raw, facts)
        if condition is None:
            return None
        name, may = condition
        return facts.bounds(name).select(may.fill_null(value=True)).to_series()
    except (PolarsError, PanicException, TypeError, ValueError, OverflowError):
        return None  # polars will say what is wrong when it runs the predicate


def _of_folders(raw: RawExpr, facts: _Facts) -> pl.Series | None:
    """Evaluate a predicate that looks at columns of folders only."""
    expr = to_expr(raw)
    names = list(dict.fromkeys(expr.meta.root_names()))
    if not names or not set(names) <= set(facts.hive) or not is_row_wise(raw):
        return None
    values = {name: facts.folder(name) for name in names}
    frame = pl.DataFrame(
        {name: pl.Series([value for value, _ in own], dtype=facts.table.schema[name]) for name, own in values.items()}
    )
    known = pl.Series([all(is_known for _, is_known in row) for row in zip(*values.values(), strict=True)], dtype=pl.Boolean)
    true = frame.select(expr.alias("true")).to_series()
    if true.dtype != pl.Boolean or len(true) != len(known):
        return None
    return true.fill_null(value=False) | ~known


def _condition(raw: RawExpr, facts: _Facts) -> tuple[str, pl.Expr] | None:
    """Return the column that a predicate looks at, and what must hold of its bounds for it to be true anywhere."""
    kind, inner = kind_of(raw), members(raw)
    if not isinstance(inner, dict):
        return None
    if kind == "BinaryExpr":
        left, right, op = inner["left"], inner["right"], str(inner["op"])
        if is_literal(left):
            left, right, op = right, left, _MIRRORED.get(op, "")
        name = plain_column(left)
        if name in facts.table.schema and is_literal(right) and op in _MIRRORED:
            return str(name), _compared(op, to_expr(right), is_float=facts.table.schema[str(name)].is_float())
        return None
    if kind != "Function":
        return None
    function, inputs = inner["function"], cast("list[RawExpr]", inner["input"])
    name = plain_column(inputs[0]) if inputs else None
    if name is None or name not in facts.table.schema or kind_of(function) != "Boolean":
        return None
    may = _boolean(members(function), inputs[1:], is_float=facts.table.schema[name].is_float())
    return None if may is None else (name, may)


def _some_value() -> pl.Expr:
    return (pl.col("nulls") < pl.col("rows")).fill_null(value=True)


def _compared(op: str, literal: pl.Expr, *, is_float: bool) -> pl.Expr:
    """Return whether a value between the bounds may compare so; NaN is in no statistic, and is greater than all."""
    low, high = pl.col("min"), pl.col("max")
    is_nan = literal.cast(pl.Float64, strict=False).is_nan() if is_float else pl.lit(value=False)
    may = {
        "Lt": low < literal,
        "LtEq": low <= literal,
        "Gt": pl.lit(value=True) if is_float else high > literal,
        "GtEq": pl.lit(value=True) if is_float else high >= literal,
        "Eq": (low <= literal) & (high >= literal),
    }[op]
    return (may | is_nan).fill_null(value=True) & _some_value()


def _boolean(function: object, arguments: Sequence[RawExpr], *, is_float: bool) -> pl.Expr | None:
    """Return whether a function of a column may be true, given the column's bounds."""
    function_kind = kind_of(function) if isinstance(function, dict) else str(function)
    if function_kind == "IsNull":
        return pl.col("nulls") > 0
    if function_kind == "IsNotNull":
        return _some_value()
    if function_kind == "IsBetween" and all(map(is_literal, arguments)):
        low, high = map(to_expr, arguments)
        return _compared("LtEq", high, is_float=is_float) & _compared("GtEq", low, is_float=is_float)
    if (
        function_kind == "IsIn"
        and is_literal(arguments[0])
        and not cast("Raw", members(function))["nulls_equal"]
        and not is_float
    ):
        listed = pl.select(to_expr(arguments[0])).to_series()
        values = listed.explode().drop_nulls().unique() if listed.dtype == pl.List else listed.drop_nulls().unique()
        if not len(values):
            return None
        if len(values) > _MOST_VALUES:
            values = pl.Series([values.min(), values.max()], dtype=values.dtype)
            ends = [pl.lit(value, dtype=values.dtype) for value in values]
            return _compared("GtEq", ends[0], is_float=False) & _compared("LtEq", ends[1], is_float=False)
        return pl.any_horizontal(_compared("Eq", pl.lit(value, dtype=values.dtype), is_float=False) for value in values)
    return None
