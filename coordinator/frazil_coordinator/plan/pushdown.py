"""Ask polars what a plan needs of its inputs.

The inputs are replaced by Python sources and the plan is collected on empty data: polars' own optimizer calls each source
with exactly the columns, the predicate and the row limit that it could push down (the interface of
``polars.io.plugins.register_io_source``). Nothing is translated and nothing guessed; it costs a few milliseconds.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

import polars as pl
from polars.exceptions import PanicException, PolarsError

from frazil_coordinator.plan.exprs import kind_of, walk
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Arena, Raw

__all__ = ["Demand", "makes_rows", "observe"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one use of an input needs of it."""

    columns: tuple[str, ...] | None
    """None is all of them."""

    predicate: bytes | None
    """Serialised `pl.Expr`; only rows for which it is true are looked at."""

    rows: int | None
    """Only so many first rows are looked at."""

    skewed: bool = False
    """Whether it is of skewed partitions only."""


_RECORDS: Final[dict[str, list[Demand]]] = {}
"""Records that are being made. Polars pickles a source when a plan is serialised, so the source holds a key into this."""


class _Recorder:
    """A source of no rows that remembers what it was asked for. Pickled by reference, with its key only."""

    def __init__(self, key: str, schema: pl.Schema) -> None:
        self._key = key
        self._schema = schema

    def __call__(
        self, with_columns: list[str] | None, predicate: bytes | None, n_rows: int | None, batch_size: int | None
    ) -> tuple[Iterator[pl.DataFrame], bool]:
        del batch_size
        columns = None if with_columns is None else tuple(with_columns)
        # A predicate that can't be written is None here, and polars applies it itself.
        _RECORDS[self._key].append(Demand(columns=columns, predicate=predicate, rows=n_rows))
        empty = pl.DataFrame(schema=self._schema)
        return iter([empty if with_columns is None else empty.select(with_columns)]), False


def observe(plan: Arena, inputs: Mapping[int, tuple[Sequence[int], pl.Schema]]) -> dict[int, list[Demand]] | None:
    """Return what `plan` needs of some of its nodes.

    Parameters
    ----------
    plan
        The plan; it is left as it is.
    inputs
        Name → the nodes that stand for the input, and its schema.

    Returns
    -------
    dict or None
        Name → one demand a use; None when the plan can't be run on empty data, makes rows of its own, or holds functions of
        the user's, which are not called for this: then everything is needed.
    """
    if not inputs:
        return {}
    if plan.python_functions() or any(makes_rows(plan.nodes[number]) for number in plan.reachable()):
        return None
    copy = Arena()
    copy.root = copy.append(plan)
    base = copy.root - plan.root
    keys = {name: uuid.uuid4().hex for name in inputs}
    _RECORDS.update({key: [] for key in keys.values()})
    try:
        replacements: dict[int, int] = {}
        for name, (nodes, schema) in inputs.items():
            source = copy.append(_source(keys[name], schema))
            replacements |= {base + node: source for node in nodes}
        copy.redirect(replacements)
        copy.lazy().collect(engine="in-memory")
        return {name: _RECORDS[key] for name, key in keys.items()}
    except (PolarsError, OSError, PanicException) as error:
        logger.debug("the plan does not run on empty data, so nothing is pushed down: %s", error)
        return None
    finally:
        for key in keys.values():
            del _RECORDS[key]


def makes_rows(node: Raw) -> bool:
    """Return whether a node makes rows out of nothing (``int_range(0, 10**9)``): then the plan does not run on no data."""
    for part in walk(node):
        if not isinstance(part, dict) or "Function" not in part:
            continue
        inner = part["Function"]
        if isinstance(inner, dict) and kind_of(inner.get("function")) in _MAKERS:
            kinds = {kind_of(inside) for value in cast("list[RawExpr]", inner["input"]) for inside in walk(value)}
            if not kinds & {"Column", "Selector", "Len"}:
                return True
    return False


_MAKERS: Final = frozenset({"Range", "Repeat", "RepeatBy"})


def _source(key: str, schema: pl.Schema) -> Arena:
    lf = pl.LazyFrame._scan_python_function(  # noqa: SLF001  # register_io_source without its closure, which only cloudpickle can write
        schema=schema, scan_fn=_Recorder(key, schema), pyarrow=False, validate_schema=False, is_pure=False
    )
    return Arena.of(lf)
