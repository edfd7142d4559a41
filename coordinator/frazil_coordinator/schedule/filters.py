"""Filter what a stage reads by the keys that a finished stage really has.

The values come with the descriptors (`Descriptor.keys`), so a filter costs no request. It becomes a predicate of the inputs,
which Polars pushes into the scan; splits that the files' statistics or folders rule out are not sent at all, nor are tasks
that have none left. Pure functions over values, used by :mod:`frazil_coordinator.schedule.layout`. What may be filtered by
which keys was decided by :mod:`frazil_coordinator.plan.runtime_filters`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec
import polars as pl

from frazil_coordinator.plan.model import ExchangeSource, RuntimeFilter, Stage
from frazil_coordinator.plan.pruning import prune
from frazil_coordinator.plan.tables import Table
from frazil_coordinator.schedule.bind import Descriptors
from frazil_coordinator.schedule.pieces import Inputs
from frazil_functions.task import Descriptor, ScanInput, Split

__all__ = ["filtered", "key_predicate", "tasks_left"]

_MARGIN: Final = 20
"""Part of the width of a range of keys by which values may lie outside of it before it is of use as a filter."""


def filtered(
    stage: Stage, inputs: Sequence[Inputs], descriptors: Descriptors, most_values: int
) -> tuple[list[Inputs], list[str]]:
    """Return what the tasks of a stage read, with the filters whose keys are known, and notes for the profile.

    Parameters
    ----------
    stage, inputs
        The stage, and what its tasks read.
    descriptors
        Descriptors of finished stages; a stage that is missing has not finished.
    most_values
        Different keys up to which each is named.
    """
    found, notes = list(inputs), list[str]()
    for one in stage.filters:
        if one.build not in descriptors:
            notes.append(f"{one.column} not filtered at first: stage {one.build} took too long")
            continue
        keys = _keys(descriptors[one.build], one.key, most_values)
        if keys is None:
            notes.append(f"{one.column} not filtered: the keys of stage {one.build} are not known")
            continue
        if one.table is not None and _drops_hardly_any(one.table, keys.outside(one.column)):
            notes.append(
                f"{one.column} not filtered: nearly all that there is lies in the range of keys of stage {one.build}"
            )
            continue
        before = _splits(found, one.source)
        predicate = keys.predicate(one.column)
        needed = _Needed.by(one, keys, predicate)
        found = [_with_predicate(given, one.source, predicate, needed) for given in found]
        dropped = before - _splits(found, one.source)
        left_out = f"; {dropped} of {before} splits left out" if dropped else ""
        notes.append(f"{one.column} filtered by {keys} of stage {one.build}{left_out}")
    return found, notes


def tasks_left(stage: Stage, inputs: Sequence[Inputs]) -> list[int]:
    """Return the tasks that may have an answer after splits were left out: at least one.

    A task without rows may go when the rows of its scan may be divided among tasks anyhow, and it reads nothing else of its
    own: then its answer adds nothing to those of the others.
    """
    numbers = {one.source for one in stage.filters}
    if len(numbers) != 1 or not numbers <= stage.divisible:
        return list(range(len(inputs)))
    (number,) = numbers
    whole = (isinstance(source, ExchangeSource) and source.read == "all" for source in stage.sources)
    if not all(reads_all or place == number for place, reads_all in enumerate(whole)):
        return list(range(len(inputs)))
    left = [task for task, given in enumerate(inputs) if not isinstance(given[number], ScanInput) or _has(given, number)]
    return left or [0]


def _has(inputs: Inputs, number: int) -> bool:
    return bool(cast("ScanInput", inputs[number]).splits)


def _splits(inputs: Sequence[Inputs], number: int) -> int:
    return sum(len(given.splits) for one in inputs if isinstance(given := one[number], ScanInput))


# Keys


@dataclass(frozen=True, slots=True)
class _Keys:
    """The different values of a key, without null; or its least and greatest."""

    values: pl.Series | None
    """None for no value at all."""

    complete: bool

    def __str__(self) -> str:
        if self.values is None:
            return "no key"
        return f"{len(self.values):,} keys" if self.complete else "the range of keys"

    def predicate(self, column: str) -> pl.Expr:
        """Return what rows with one of the keys fulfil."""
        return key_predicate(column, self.values, complete=self.complete)

    def outside(self, column: str) -> pl.Expr | None:
        """Return what rows fulfil that are far from the range of the keys, or null; None when each is known, or has no size.

        A range that reaches to within a twentieth of its own width of all that there is drops hardly anything.
        """
        if self.complete or self.values is None or not self.values.to_physical().dtype.is_integer():
            return None
        dtype, numbers, name = self.values.dtype, self.values.to_physical(), pl.col(column)
        low, high = cast("int", numbers.min()), cast("int", numbers.max())
        margin = (high - low) // _MARGIN
        least, most = max(low - margin, numbers.lower_bound().item()), min(high + margin, numbers.upper_bound().item())
        below, above = (pl.lit(end, dtype=numbers.dtype) for end in (least, most))
        if numbers.dtype != dtype:
            below, above = below.cast(dtype), above.cast(dtype)
        return (name < below) | (name > above) | name.is_null()


def _drops_hardly_any(table: Table, outside: pl.Expr | None) -> bool:
    """Return whether statistics rule out all rows that are outside of a range."""
    return outside is not None and not any(footer.row_groups for footer in prune(table, [outside]).footers)


def key_predicate(column: str, values: pl.Series | None, *, complete: bool) -> pl.Expr:
    """Return the predicate that `column` is one of `values`, or lies between the least and the greatest of them.

    Parameters
    ----------
    column
        A column of the same dtype as `values`.
    values
        Without null; None or empty is none.
    complete
        Whether these are all values.
    """
    if values is None or not len(values):
        return pl.lit(value=False)
    # Python's datetimes do not reach all that polars has: temporal values travel as numbers.
    dtype, numbers = values.dtype, values.to_physical()

    def literal(value: object) -> pl.Expr:
        found = pl.lit(value, dtype=numbers.dtype)
        return found if numbers.dtype == dtype else found.cast(dtype)

    between = pl.col(column).is_between(literal(numbers.min()), literal(numbers.max()))
    if not complete:
        return between
    listed = pl.lit(numbers.to_list(), dtype=pl.List(numbers.dtype))
    return between & pl.col(column).is_in(listed if numbers.dtype == dtype else listed.cast(pl.List(dtype)))


def _keys(built: Sequence[Descriptor], column: str, most_values: int) -> _Keys | None:
    """Return the keys that all tasks of a stage wrote; None when one did not tell."""
    found: list[pl.Series] = []
    complete = True
    for one in built:
        if not one.blocks:
            continue
        summary = next((keys for keys in one.keys if keys.column == column), None)
        if summary is None or summary.values is None:
            return None
        complete &= summary.complete
        if summary.values:
            found.append(pl.read_ipc(io.BytesIO(summary.values)).to_series())
    if not found:
        return _Keys(None, complete=True)
    values = pl.concat(found).unique()
    complete = complete and len(values) <= most_values
    if not complete:
        ends = values.to_frame()
        values = pl.concat([ends.select(pl.all().min()), ends.select(pl.all().max())]).to_series()
    return _Keys(values.sort(), complete=complete)


# Inputs


@dataclass(frozen=True, slots=True)
class _Needed:
    """Which splits may have rows that are needed."""

    table: Table | None
    """With the row groups that may; None when nobody knows."""

    none: bool

    @classmethod
    def by(cls, one: RuntimeFilter, keys: _Keys, predicate: pl.Expr) -> _Needed:
        table = None if one.table is None else prune(one.table, [predicate])
        return cls(None if table is one.table else table, none=keys.values is None)

    def has(self, split: Split) -> bool:
        """Return whether a row of the split may be needed."""
        if self.none:
            return False
        if self.table is None or split.length is not None or not split.rows:
            return True
        return any(
            group.first < split.offset + split.rows and split.offset < group.first + group.rows
            for file, footer in zip(self.table.files, self.table.footers, strict=True)
            if file.path == split.path
            for group in footer.row_groups
        )


def _with_predicate(inputs: Inputs, number: int, predicate: pl.Expr, needed: _Needed) -> Inputs:
    given = inputs[number]
    if given.predicate is not None:
        predicate = pl.Expr.deserialize(given.predicate) & predicate
    given = msgspec.structs.replace(given, predicate=predicate.meta.serialize())
    if isinstance(given, ScanInput):
        given = msgspec.structs.replace(given, splits=tuple(split for split in given.splits if needed.has(split)))
    return (*inputs[:number], given, *inputs[number + 1 :])
