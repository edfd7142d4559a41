"""Parts of a plan that draw random numbers: each place where such a part stands is an evaluation of its own.

Polars computes equal sub-plans once, but not those that hold ``shuffle``, ``sample`` or a random ``rank`` (pola-rs/polars
#28733, ``aexpr/determinism.rs``): two shuffles of one frame differ. :func:`set_apart` gives every reader of such a part a
copy of it, down to the last node that draws; what lies below stays shared, and so does what ``LazyFrame.cache`` holds.
Next: :mod:`frazil_coordinator.plan.distribute`.
"""

from __future__ import annotations

from typing import Final, cast

from frazil_functions.arena import Arena, Raw

__all__ = ["draws", "node_draws", "set_apart"]

_WITHOUT_SEED: Final = frozenset({"Average", "Dense", "Max", "Min", "Ordinal"})
"""Methods of ranks that have a seed and don't use it."""


def draws(raw: object) -> bool:
    """Return whether a node without its inputs, or an expression, draws random numbers from no seed of its own.

    Parameters
    ----------
    raw
        What polars serialises: maps, lists and scalars.
    """
    stack = [raw]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            if "seed" in part and part["seed"] is None and _is_drawn(part):
                return True
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)
    return False


def _is_drawn(function: Raw) -> bool:
    """Return whether a function that takes a seed uses it; most methods of ranks don't."""
    options = function.get("options")
    method = (options if isinstance(options, dict) else function).get("method")
    return not isinstance(method, str) or method not in _WITHOUT_SEED


def set_apart(arena: Arena) -> None:
    """Copy what draws random numbers for each of its readers, and note the copies in `Arena.independent`.

    Parameters
    ----------
    arena
        The user's plan; changed where it stands. A plan that draws nothing stays as it is.

    Notes
    -----
    `Arena.decode` bounds the copies: a plan has at most 100,000 nodes when each is written out where it is read.
    """
    drawing: set[int] = set()
    for number in arena.reachable():
        inputs = arena.inputs(number)
        if not drawing.isdisjoint(inputs) or node_draws(arena, number):
            drawing.add(number)
    if arena.root in drawing:
        arena.root = _Copies(arena, drawing).of(arena.root)


def node_draws(arena: Arena, number: int) -> bool:
    """Return whether node `number` itself, whatever it reads, draws random numbers from no seed of its own."""
    if arena.kind(number) in ("Scan", "DataFrameScan", "PythonScan"):  # rows and schemas, which may have any names
        return False
    return draws(Arena.with_inputs(arena.nodes[number], [0] * len(arena.inputs(number))))


class _Copies:
    """Copies of the nodes that draw, or read what draws: one a reader."""

    def __init__(self, arena: Arena, drawing: set[int]) -> None:
        self._arena = arena
        self._drawing = drawing
        self._caches: dict[object, int] = {}
        """Id of a cache → its one copy: all who read a cache see the same draw."""

    def of(self, number: int) -> int:
        """Return a copy of node `number`; the node itself when nothing is drawn there."""
        if number not in self._drawing:
            return number
        cache = self._arena.payload(number)["id"] if self._arena.kind(number) == "Cache" else None
        if cache is not None and (known := self._caches.get(cache)) is not None:
            return known
        inputs = [self.of(child) for child in self._arena.inputs(number)]
        copy = self._arena.add(Arena.with_inputs(self._arena.nodes[number], inputs))
        self._arena.independent.add(copy)
        if cache is not None:
            self._caches[cast("bytes", cache)] = copy
        return copy
