"""Groups that must be whole, divided all the same: stages in reserve for the partitions that turn out skewed.

A median or a count of distinct values needs all rows of its group, which a shuffle by key brings into one task; a key with
half of the rows keeps that task busy while the others are done. Some of these aggregates can be computed over a divided
group, exactly, at the price of a second shuffle. So two forms of the group_by are planned. The plain one reads the
partitions of even size. The one in reserve reads those that are far larger (:mod:`frazil_coordinator.schedule.skew`), cut by
the tasks that wrote them, and takes the aggregates apart:

* those that decompose: partial aggregates, shuffled by key (:mod:`frazil_coordinator.plan.decompose`);
* distinct values: different pairs of key and value, shuffled by both, counted by key;
* medians and quantiles: pairs of key and value with the number of their rows, sorted by both over ranges; each task says how
  many rows of its first and last group it has, and picks the pairs at the positions that are asked for.

A last task for each partition joins the results by key and puts them beside the plain form's, with the same distribution.
When no partition is skewed the stages in reserve have no task, and nothing is read or written for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl
from polars import selectors as cs

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decompose import decompose
from frazil_coordinator.plan.exprs import is_separable, kind_of, members, operands, serialised, to_expr
from frazil_coordinator.plan.looks import Shape, shape_of
from frazil_coordinator.plan.memory import least_skewed_bytes
from frazil_coordinator.plan.nodes import GroupBy, RawExpr
from frazil_coordinator.plan.relation import ANY, Distribution, ExchangeLeaf, Leaf, Relation
from frazil_coordinator.plan.rules.base import combine
from frazil_coordinator.plan.rules.quantiles import Quantile, quantile_of
from frazil_functions.task import SortKey

__all__ = ["with_reserve"]

_EXPANSION: Final = 8
"""How many times the compressed bytes of a table the blocks of a shuffle may take: a bound of what may be skewed at all."""

_VALUE: Final = "__frazil_value"
_COUNT: Final = "__frazil_count"
_LOW: Final = "__frazil_low"
_FIRST: Final = "__frazil_first"
_OWN: Final = "__frazil_own"
_BEFORE: Final = "__frazil_before"
_TOTAL: Final = "__frazil_total"
_WHOLE: Final = "__frazil_whole"
_ENDS: Final = ("_low", "_high")


def with_reserve(node: GroupBy, keys: Sequence[pl.Expr], rows: Relation, plain: Relation, context: Context) -> Relation:
    """Return whole groups with stages in reserve for skewed partitions, where their aggregates can be divided.

    Parameters
    ----------
    node
        The group_by; nobody looks at the order of its groups.
    keys
        Its keys, row-wise.
    rows
        Its input.
    plain
        The group_by over the shuffle by its keys.
    context
        Settings; inserts exchanges.
    """
    if node.predicates or context.partitions < 2 or rows.bytes * _EXPANSION <= least_skewed_bytes(context.settings):
        return plain
    shuffled, number = next((leaf, number) for number, leaf in plain.leaves.items() if isinstance(leaf, ExchangeLeaf))
    expected = plain.schema
    names = rows.lf.select(keys).collect_schema().names()
    wholes = _Wholes(rows=rows.lf)
    parts = decompose(node.aggs, rows.lf, grouped=True, exclude=names, known=wholes.column)
    if parts is None or not wholes or not all(_is_key(expected[name]) for name in names):
        return plain
    reserve = _Reserve(context=context, shuffled=shuffled, distribution=plain.distribution, keys=keys, names=names)
    sides = reserve.sides(parts.partial, wholes)
    lf = sides[0].lf
    for side in sides[1:]:
        lf = lf.join(side.lf, on=names, how="left", nulls_equal=True, maintain_order="left")  # what is first stays first
    divided = lf.group_by(names).agg(parts.final)
    divided = divided.select(pl.col(name).cast(dtype) for name, dtype in expected.items())
    even = replace(plain, leaves={**plain.leaves, number: replace(shuffled, partitions="even")})
    both = combine([even, *sides]).then(pl.concat([even.lf, divided], how="vertical"), distribution=plain.distribution)
    return replace(both, operators=(*plain.operators, "UNION with the groups of skewed partitions"), bytes=plain.bytes)


def _is_plain(dtype: pl.DataType) -> bool:
    """Return whether hashing and grouping agree on which values are equal, whatever file they are from."""
    return not (dtype.is_nested() or isinstance(dtype, (pl.Categorical, pl.Object, pl.Null)))


def _is_key(dtype: pl.DataType) -> bool:
    """Return whether sorting and joining agree with them as well: 0.0 and -0.0 are one group, but not one place in order."""
    return _is_plain(dtype) and not dtype.is_float()


@dataclass(slots=True)
class _Wholes:
    """The aggregates that need whole groups, by the values that they are of."""

    rows: pl.LazyFrame
    distinct: dict[bytes, tuple[RawExpr, list[str]]] = field(default_factory=dict)
    quantiles: dict[bytes, tuple[RawExpr, list[tuple[str, Quantile]]]] = field(default_factory=dict)
    _known: dict[bytes, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.distinct or self.quantiles)

    def column(self, raw: RawExpr) -> pl.Expr | None:
        """Return an aggregate from the column that will hold it, on each row of a group; None if it can't be divided."""
        key = serialised(raw)
        if key not in self._known:
            name = f"{_WHOLE}{len(self._known)}"
            if not self._add(raw, name):
                return None
            self._known[key] = name
        found = pl.col(self._known[key]).first()
        return found if quantile_of(raw) else found.fill_null(0)  # a group whose values are all filtered out has no pair

    def _add(self, raw: RawExpr, name: str) -> bool:
        if kind_of(raw) == "Agg" and kind_of(members(raw)) == "NUnique":
            values = operands(raw)[0]
            if not is_separable(values) or shape_of(values) is Shape.SCALAR or not _is_plain(self._dtype(values)):
                return False
            self.distinct.setdefault(serialised(values), (values, []))[1].append(name)
            return True
        quantile = quantile_of(raw)
        if quantile is None:
            return False
        dtype = self._dtype(quantile.values)
        if not (dtype.is_integer() or dtype.is_float()):
            return False
        self.quantiles.setdefault(serialised(quantile.values), (quantile.values, []))[1].append((name, quantile))
        return True

    def _dtype(self, values: RawExpr) -> pl.DataType:
        (dtype,) = self.rows.select(to_expr(values)).collect_schema().dtypes()
        return dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reserve:
    """The stages in reserve of one group_by."""

    context: Context
    shuffled: ExchangeLeaf
    """The shuffle by key of the rows."""

    distribution: Distribution
    keys: Sequence[pl.Expr]
    names: Sequence[str]

    def of_rows(self, step: Callable[[pl.LazyFrame], pl.LazyFrame], operator: str) -> Relation:
        """Return a step over parts of the skewed partitions."""
        read = self.context.read(
            self.shuffled.exchange, "partition", ANY, "group_by", f"SKEWED PARTITIONS of {self.distribution}"
        )
        leaves: dict[int, Leaf] = {number: replace(self.shuffled, partitions="skewed") for number in read.leaves}
        return replace(read, leaves=leaves).then(step(read.lf), operator, divisible=True)

    def sides(self, partial: Sequence[pl.Expr], wholes: _Wholes) -> list[Relation]:
        """Return the aggregates by key, in parts; the first one has every key."""
        made = [(_has_all(values), self.distinct(values, names)) for values, names in wholes.distinct.values()]
        made += [(_has_all(values), self.quantiles(values, names)) for values, names in wholes.quantiles.values()]
        made.sort(key=lambda side: not side[0])
        sides = [side for _, side in made]
        complete = any(has_all for has_all, _ in made)
        return sides if complete and not partial else [self.decomposed(partial), *sides]

    def by_key(self, partial: Relation) -> Relation:
        """Shuffle what parts of groups have become by key."""
        keys = [pl.col(name) for name in self.names]
        return self.context.shuffle(partial, keys, delivers=self.distribution, kind="group_by")

    def decomposed(self, partial: Sequence[pl.Expr]) -> Relation:
        """Return partial aggregates, one row or more for each key."""
        aggs = [*partial, pl.len().alias(_COUNT)]  # a key without an aggregate has a row all the same
        return self.by_key(self.of_rows(lambda lf: lf.group_by(self.keys).agg(aggs), self._text("GROUP BY {} (partial)")))

    def _pairs(self, rows: pl.LazyFrame, values: RawExpr) -> pl.LazyFrame:
        """Return key and value of each row; of some of them, if values are filtered."""
        value = to_expr(values).alias(_VALUE)
        if shape_of(values) is Shape.COLUMN:
            return rows.select(*self.keys, value)
        return rows.group_by(self.keys).agg(value).explode(_VALUE, empty_as_null=False)

    def distinct(self, values: RawExpr, columns: Sequence[str]) -> Relation:
        """Return the number of distinct values of each key."""
        both = [*self.names, _VALUE]
        pairs = self.of_rows(lambda lf: self._pairs(lf, values).unique(), self._text("UNIQUE {} and values"))
        delivers = Distribution(kind="hash", keys=tuple(both), dtypes=tuple(pairs.schema[name] for name in both))
        met = self.context.shuffle(pairs, [pl.col(name) for name in both], delivers=delivers, kind="group_by")
        counted = met.lf.unique().group_by(self.names).agg(pl.len().alias(_COUNT))
        parts = self.by_key(met.then(counted, self._text("COUNT distinct values by {}"), distribution=ANY))
        total = parts.lf.group_by(self.names).agg(pl.col(_COUNT).sum())
        return parts.then(total.select(*self.names, *(pl.col(_COUNT).alias(name) for name in columns)))

    def quantiles(self, values: RawExpr, wanted: Sequence[tuple[str, Quantile]]) -> Relation:
        """Return quantiles of values that are not null of each key; keys whose values are all filtered out are missing.

        A pair of a key and null counts no row, and has no position: it is there so that no key gets lost.
        """
        both = [*self.names, _VALUE]
        zero = cs.float() + 0.0  # -0.0 has another place in order than 0.0, but is equal to it; no key is a float
        count = pl.when(pl.col(_VALUE).is_null()).then(0).otherwise(_COUNT).cast(pl.Int64).alias(_COUNT)
        counted = self.of_rows(
            lambda lf: (
                self._pairs(lf, values).with_columns(zero).group_by(both).agg(pl.len().alias(_COUNT)).with_columns(count)
            ),
            self._text("COUNT {} and values"),
        )
        order = [SortKey(column=name, descending=False, nulls_last=False) for name in both]
        ranges = self.context.sort(counted, order, stable=False)
        added = ranges.lf.group_by(both, maintain_order=True).agg(pl.col(_COUNT).sum())
        runs = self.context.once(ranges.then(added, self._text("COUNT {} and values (final)")))
        groups = runs.lf.group_by(self.names, maintain_order=True).agg(
            pl.col(_VALUE).first().alias(_FIRST), pl.col(_COUNT).sum().alias(_OWN)
        )
        place = pl.int_range(pl.len())
        border = groups.filter((place == 0) | (place == pl.len() - 1))
        borders = self.context.broadcast(runs.then(border, self._text("FIRST AND LAST {}")))
        numbered = self._numbered(runs.lf, groups, borders.lf)
        is_null = pl.col(_VALUE).is_null()
        picks = numbered.filter(pl.any_horizontal(is_null, *(_is_wanted(one) for _, one in wanted)))
        picked = combine([runs, borders]).then(picks, "PICK BY POSITION", distribution=ANY)
        parts = self.by_key(picked)
        ends = {
            f"{name}{end}": pl.col(_VALUE).filter(_holds(position)).first()
            for name, one in wanted
            for end, position in zip(_ENDS, _around(one), strict=True)
        }
        of_key = parts.lf.group_by(self.names).agg(pl.col(_TOTAL).first(), **ends)
        dtype = pl.Float32() if runs.schema[_VALUE] == pl.Float32 else pl.Float64()
        made = [_between(one, *(pl.col(f"{name}{end}") for end in _ENDS), dtype=dtype).alias(name) for name, one in wanted]
        return parts.then(of_key.select(*self.names, *made))

    def _numbered(self, runs: pl.LazyFrame, groups: pl.LazyFrame, borders: pl.LazyFrame) -> pl.LazyFrame:
        """Return pairs of key and value with the number of rows of the key before them, and of the key at all.

        Only the first and the last key of a task can have rows in other tasks: what those told is added.
        """
        theirs = borders.rename({_FIRST: _BEFORE, _OWN: _TOTAL})
        both = groups.join(theirs, on=self.names, how="left", nulls_equal=True, maintain_order="left")
        is_before = pl.col(_BEFORE) < pl.col(_FIRST)
        is_before = is_before.fill_null(pl.col(_BEFORE).is_null() & pl.col(_FIRST).is_not_null())  # null comes first
        known = both.group_by(self.names, maintain_order=True).agg(
            pl.col(_OWN).first(), pl.col(_TOTAL).filter(is_before).sum().alias(_BEFORE), pl.col(_TOTAL).sum()
        )
        # A sum of nulls is 0: no other task has rows of the key.
        known = known.with_columns(
            pl.when(pl.col(_TOTAL) > 0).then(_TOTAL).otherwise(_OWN).alias(_TOTAL),
            pl.col(_BEFORE) - (pl.col(_OWN).cum_sum() - pl.col(_OWN)),
        )
        beside = runs.join(known, on=self.names, how="left", nulls_equal=True, maintain_order="left")
        low = pl.col(_COUNT).cum_sum() - pl.col(_COUNT) + pl.col(_BEFORE)
        return beside.select(*self.names, _VALUE, _COUNT, _TOTAL, low.alias(_LOW))

    def _text(self, form: str) -> str:
        return form.format(", ".join(self.names))


def _has_all(values: RawExpr) -> bool:
    """Return whether each row has a value, if only null, so that the pairs of key and value have every key."""
    return shape_of(values) is Shape.COLUMN


def _holds(position: pl.Expr) -> pl.Expr:
    """Return whether a pair of key and value has the row at a position of its group."""
    return (position >= pl.col(_LOW)) & (position < pl.col(_LOW) + pl.col(_COUNT))


def _around(quantile: Quantile) -> tuple[pl.Expr, pl.Expr]:
    """Return the positions below and above the one that is asked for."""
    position = quantile.position(pl.col(_TOTAL))
    return position.floor(), position.ceil()


def _is_wanted(quantile: Quantile) -> pl.Expr:
    return pl.any_horizontal(map(_holds, _around(quantile)))


def _between(quantile: Quantile, low: pl.Expr, high: pl.Expr, *, dtype: pl.DataType) -> pl.Expr:
    """Return what polars makes of the two values around a position.

    The formulas are those of polars' quantile kernels (``linear_interpol`` and ``midpoint_interpol`` in polars-core).
    """
    position = quantile.position(pl.col(_TOTAL))
    low, high, part = low.cast(dtype), high.cast(dtype), (position - position.floor()).cast(dtype)
    match quantile.method:
        case "Lower" | "Equiprobable":
            return low
        case "Higher":
            return high
        case "Nearest":
            return pl.when(part >= 0.5).then(high).otherwise(low)
        case "Midpoint":
            return pl.when(low == high).then(low).otherwise((low + high) / 2)
        case _:
            return pl.when(low == high).then(low).otherwise(part * (high - low) + low)
