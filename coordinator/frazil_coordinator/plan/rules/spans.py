"""Windows of time without keys: every task gets a span of time, with the rows around it that the span's windows reach.

Spans are as wide as a window reaches, or wider, so that a row goes to few of them, and there are a few for each partition.
Rows are copied into the spans that may need them and shuffled by span; polars computes each span by itself, as a group, and
what belongs to another span is left out. :mod:`.dynamic` and :mod:`.rolling_by` use this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import polars as pl

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.model import StageKind
from frazil_coordinator.plan.relation import ANY, SINGLE, Distribution, ExchangeLeaf, Relation
from frazil_coordinator.plan.rules.base import beside, combine
from frazil_functions.arena import Raw

__all__ = ["SPAN", "Reach", "copied_into_spans", "is_in_span", "most_ticks", "ticks", "with_ends"]

_FROM: Final = "__frazil_from"
_TO: Final = "__frazil_to"
SPAN: Final = (_FROM, _TO)
"""Columns of the first tick of a row's span, and of the first tick behind it."""

_FIRST: Final = "__frazil_first"
_LAST: Final = "__frazil_last"
_CHECK: Final = "__frazil_check"
_SPANS_PER_PARTITION: Final = 4
_DAY_NS: Final = 86_400_000_000_000
_TICK_NS: Final = {"ns": 1, "us": 1_000, "ms": 1_000_000}

Duration: TypeAlias = Raw
"""A duration as polars writes it: months, weeks, days, nsecs; for an index of integers its number is that of nsecs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far windows may reach, in ticks of the index: bounds from above."""

    before: int
    """From a window's own tick back to the first row that it may hold."""

    after: int
    """And on to the last."""


def ticks(index: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return an index as integers: itself, or microseconds and the like of a time; dates as microseconds."""
    return (index.cast(pl.Datetime("us")) if dtype == pl.Date else index).to_physical().cast(pl.Int64)


def most_ticks(duration: Duration, dtype: pl.DataType) -> int:
    """Return how many ticks of an index of this dtype a duration has at most, whatever its sign and the calendar."""
    months, weeks, days, nanoseconds = (cast("int", duration[name]) for name in ("months", "weeks", "days", "nsecs"))
    if dtype.is_integer():
        return nanoseconds
    whole_days = months * 31 + weeks * 7 + days
    slack = 2 if whole_days else 0  # a day may have 25 hours, and months are cut to their last day
    unit = dtype.time_unit if isinstance(dtype, pl.Datetime | pl.Duration) and dtype.time_unit else "us"
    return -(-(nanoseconds + (whole_days + slack) * _DAY_NS) // _TICK_NS[unit])


def with_ends(index: str, rows: Relation, context: Context, *, ordered: bool) -> Relation:
    """Return the rows, each beside the first and the last tick of all.

    Parameters
    ----------
    index
        A column of integers or times.
    rows
        The rows.
    context
        Inserts exchanges.
    ordered
        Whether polars shall raise what it raises when the index is not in order, or has nulls. A task whose own rows are
        in order gives its first and last one; any other a pair that is not.
    """
    if any(isinstance(leaf, ExchangeLeaf) for leaf in rows.leaves.values()):
        rows = context.once(rows)
    dtype, value = rows.schema[index], pl.col(index)
    if ordered:
        fits = value.is_sorted() & ~value.has_nulls()
        most = pl.when(value.has_nulls()).then(None).otherwise(value.max())
        pair = [pl.when(fits).then(value.first()).otherwise(most), pl.when(fits).then(value.last()).otherwise(value.min())]
    else:
        pair = [value.min(), value.max()]
    listed = rows.lf.select(pl.concat_list(pair).alias(index), pl.len().alias(_CHECK)).filter(pl.col(_CHECK) > 0)
    ends = rows.then(listed.select(pl.col(index).list.explode(keep_nulls=True, empty_as_null=False)), "ENDS OF THE TASK")
    kind: StageKind = "aggregate"
    gathered = context.gather(ends, kind=kind)
    tick = ticks(value, dtype)
    row = gathered.lf.select(tick.min().alias(_FIRST), tick.max().alias(_LAST))
    if ordered:
        again = context.renumbered(gathered)
        # Of both of polars' engines, rolling windows are checked.
        checked = again.lf.rolling(index, period="1i" if dtype.is_integer() else "1d").agg(pl.len().alias(_CHECK))
        row = row.join(checked.select(pl.col(_CHECK).count()), how="cross")
        gathered = combine([gathered, again])
    known = context.broadcast(gathered.then(row, "FIRST AND LAST TICK", distribution=SINGLE, kind=kind))
    return beside(rows, known)


def copied_into_spans(
    tick: pl.Expr, reach: Reach, rows: Relation, context: Context, columns: Sequence[str], *, first_everywhere: bool = False
) -> Relation:
    """Return the rows of each span in one task, in their order, with the columns :data:`SPAN` beside `columns`.

    Parameters
    ----------
    tick
        The index as integers; a row without one is in a span without bounds.
    reach
        How far the windows of a span reach: rows go to all spans of which a window may hold them.
    rows
        What :func:`with_ends` returned.
    context
        Inserts exchanges.
    columns
        Columns that are kept.
    first_everywhere
        Whether the rows of the first tick go to every span, from the one before the first on.
    """
    count = context.partitions * _SPANS_PER_PARTITION
    first, last = pl.col(_FIRST), pl.col(_LAST)
    width = pl.max_horizontal(pl.lit(reach.before + reach.after, dtype=pl.Int64), (last - first) // count) + 1
    since = tick - first
    lowest, highest = (since - reach.after) // width, (since + reach.before) // width
    if first_everywhere:
        lowest = pl.when(since == 0).then(pl.min_horizontal(lowest, pl.lit(-1, dtype=pl.Int64))).otherwise(lowest)
        highest = pl.when(since == 0).then((last - first) // width).otherwise(highest)
    numbers = pl.when(tick.is_not_null()).then(pl.int_ranges(lowest, highest + 1))
    start = first + pl.col(_FROM) * width
    copied = (
        rows.lf.with_columns(numbers.alias(_FROM))
        .explode(_FROM, keep_nulls=True, empty_as_null=False)
        .with_columns(start.alias(_FROM), (start + width).alias(_TO))
        .select(*columns, *SPAN)
    )
    spread = rows.then(copied, "COPY INTO SPANS", distribution=ANY)
    delivers = Distribution(kind="hash", keys=SPAN, dtypes=(pl.Int64(), pl.Int64()))
    return context.shuffle(spread, [pl.col(name) for name in SPAN], delivers=delivers, kind="group_by")


def is_in_span(tick: pl.Expr) -> pl.Expr:
    """Return whether a tick lies in the span beside it."""
    return (tick >= pl.col(_FROM)) & (tick < pl.col(_TO))
