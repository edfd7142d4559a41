"""Rows that only this process has (an Arrow C stream, a pyarrow table as a dataset), read here and sent as a frame.

``pl.scan_arrow_c_stream`` and ``pl.scan_pyarrow_dataset`` of tables in memory put an object into the plan that nobody can
pickle. While :mod:`frazil._serialize` serialises a plan, such an object is pickled as a key; afterwards its rows are read,
and the scan gives way to a frame, so that nothing of Python has to travel. Sources of files (a pyarrow dataset of Parquet)
can be pickled, and are not touched.
"""

from __future__ import annotations

import contextlib
import copyreg
import pickle
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Final, cast

import polars as pl

from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import PlanError, PythonPlanError

__all__ = ["Held", "resolve_held", "rows_held"]

_SCAN: Final = "PythonScan"
_POLARS_PICKLE_HEADER_BYTES: Final = 3

Held = dict[str, object]
"""Key → an object that was pickled as that key."""


class _Here(threading.local):
    """The objects of the plan that this thread serialises; None when it serialises none."""

    held: Held | None = None


_HERE: Final = _Here()
_UNPICKLED: Final[Held] = {}
"""Objects whose plans are being resolved: what :func:`_by_key` looks into."""


@contextlib.contextmanager
def rows_held() -> Iterator[Held]:
    """Let objects that have rows of this process be serialised by key while the context lasts, in this thread.

    Yields
    ------
    Held
        Those that were.
    """
    reader = sys.modules["polars._plr"].PyArrowCStreamReader
    copyreg.pickle(reader, _key_of)
    if (dataset := sys.modules.get("pyarrow.dataset")) is not None:
        copyreg.pickle(dataset.InMemoryDataset, _key_of)
    held: Held = {}
    _HERE.held = held
    try:
        yield held
    finally:
        _HERE.held = None


def _key_of(source: object) -> tuple[Callable[[str], object], tuple[str]]:
    """Pickle an object as a key; the classes are registered for good, so anybody else gets the error of before."""
    held = _HERE.held
    if held is None:
        raise TypeError(f"cannot pickle {type(source).__name__!r} object")
    key = next((key for key, known in held.items() if known is source), None) or uuid.uuid4().hex
    held[key] = source
    return _by_key, (key,)


def _by_key(key: str) -> object:
    return _UNPICKLED[key]


def resolve_held(arena: Arena, held: Mapping[str, object], *, max_bytes: int, reads: bool = True) -> bool:
    """Replace the scans of `held` objects in place by frames of their rows; return whether there were any.

    Parameters
    ----------
    arena
        The plan.
    held
        What :func:`rows_held` gave.
    max_bytes
        Largest plan. More rows are not read: a stream may be endless.
    reads
        Whether the plan is going to run. If not, a stream is not read: it could not be read again.

    Raises
    ------
    PlanError
        When the rows don't fit into a plan, or a stream would be used up for a plan that does not run.
    """
    if not held:
        return False
    _UNPICKLED.update(held)
    try:
        frames: dict[str, pl.DataFrame] = {}
        replacements: dict[int, int] = {}
        for number in arena.reachable():
            if (found := _held_by(arena, number, held)) is not None:
                key, pickled = found
                if key not in frames:
                    if not reads and type(held[key]).__name__ == "PyArrowCStreamReader":
                        raise PlanError("an Arrow C stream can be read once only, so the query can be run, not explained")
                    frames[key] = _rows(pickled, arena.lazy(number).collect_schema(), max_bytes)
                replacements[number] = arena.append(Arena.of(frames[key].lazy()))
        arena.redirect(replacements)
        return bool(replacements)
    finally:
        for key in held:
            del _UNPICKLED[key]


def _held_by(arena: Arena, number: int, held: Mapping[str, object]) -> tuple[str, bytes] | None:
    """Return the key of the object that a node scans, and the pickled function by which polars does."""
    if arena.kind(number) != _SCAN:
        return None
    raw = cast("Raw", arena.payload(number)["options"])["scan_fn"]
    pickled = raw if isinstance(raw, bytes) else bytes(item & 0xFF for item in cast("list[int]", raw))
    keys = [key for key in held if key.encode() in pickled]
    return (keys[0], pickled[_POLARS_PICKLE_HEADER_BYTES:]) if len(keys) == 1 else None


def _rows(pickled: bytes, schema: pl.Schema, max_bytes: int) -> pl.DataFrame:
    # What this process pickled itself a moment ago; called as polars calls it, for all columns and rows.
    frames, _ = pickle.loads(pickled)(None, None, None, None)  # noqa: S301
    taken: list[pl.DataFrame] = []
    size = 0
    for frame in frames:
        if frame.schema != schema:
            raise PythonPlanError(f"a source of this process yields {frame.schema} where it says {schema}")
        taken.append(frame)
        size += frame.estimated_size()
        if size > max_bytes:
            raise PlanError(
                f"a source of this process has more than the {max_bytes:,} bytes of Settings.max_plan_bytes. Its rows are "
                "part of the plan: write them to Parquet and scan the files"
            )
    return pl.concat(taken) if taken else pl.DataFrame(schema=schema)
