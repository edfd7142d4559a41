"""Plans that a Python function goes on to build once it knows the schema (``LazyFrame.pipe_with_schema``).

Polars would call the function where the query runs. It is called here instead, in the process that it belongs to, so that
nothing of Python has to travel. Used by :mod:`frazil._serialize`.
"""

from __future__ import annotations

import pickle
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError

from frazil_functions.arena import Arena

__all__ = ["resolve_pipes"]

_PIPE: Final = "PipeWithSchema"
_POLARS_PICKLE_HEADER_BYTES: Final = 3


def resolve_pipes(arena: Arena) -> bool:
    """Replace pipes in place by the plans that their functions return; return whether there were any.

    A pipe whose schema can't be known here, because this process can't read the files, is left as it is.
    """
    changed = False
    while (number := _first_pipe(arena)) is not None:
        inputs = [arena.lazy(child) for child in arena.inputs(number)]
        try:
            schemas = [dict(lf.collect_schema()) for lf in inputs]
        except (PolarsError, OSError):
            return changed
        callback = bytes(item & 0xFF for item in cast("list[int]", arena.payload(number)["callback"]))
        # What this process pickled itself a moment ago.
        build = pickle.loads(callback[_POLARS_PICKLE_HEADER_BYTES:])  # noqa: S301
        built = pl.LazyFrame._from_pyldf(build(([lf._ldf for lf in inputs], schemas)))  # noqa: SLF001  # as polars calls it
        arena.redirect({number: arena.append(Arena.of(built))})
        changed = True
    return changed


def _first_pipe(arena: Arena) -> int | None:
    """Return a pipe that has no other pipe below it."""
    return next((number for number in arena.reachable() if arena.kind(number) == _PIPE), None)
