"""Whether a fragment always gives the same answer for the same inputs: only then may its answer be used again.

Nothing is run or unpickled; what is not known to be pure is taken for impure. :mod:`frazil_coordinator.reuse.digests` asks,
and so does EXPLAIN (docs/reuse.md).
"""

from __future__ import annotations

from typing import Final

from frazil_coordinator.plan.model import ScanSource, Stage
from frazil_coordinator.plan.randomness import node_draws
from frazil_functions.arena import Arena
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.task import INPUT_SCHEME

__all__ = ["why_impure", "why_never"]

_SINKS: Final = frozenset({"Sink", "SinkMultiple"})
_PLUGIN: Final = "FfiPlugin"


def why_never(stage: Stage, *, writes_files: bool) -> str | None:
    """Return why no answer of a stage's tasks is ever used again; None when there is no reason.

    Parameters
    ----------
    stage
        The stage.
    writes_files
        Whether its tasks write files of the user's.
    """
    if writes_files:
        return "its tasks write files of the user's"
    if stage.first_rows is not None:
        return "its tasks run until there are rows enough"
    if any(isinstance(source, ScanSource) and _without_etags(source) for source in stage.sources):
        return "the store of its files tells no etags: whether one was replaced is not known"
    return why_impure(Arena.decode(stage.fragment)) if stage.fragment else None


def _without_etags(source: ScanSource) -> bool:
    return any(split.etag is None for group in source.splits for split in group)


def why_impure(arena: Arena) -> str | None:
    """Return why two runs of a fragment may differ, or what it reads is not known; None when they are the same.

    Parameters
    ----------
    arena
        The fragment: its inputs are placeholders (`frazil_functions.task.INPUT_SCHEME`).
    """
    for number in arena.reachable():
        node = arena.nodes[number]
        if python := sorted(set(python_kinds([node]))):
            return f"Python code ({', '.join(python)}), of which nobody knows whether it is pure"
        paths = arena.scan_paths(number)
        if paths is not None and any(not path.startswith(INPUT_SCHEME) for path in paths):
            return "a scan that is not split: which version of its files a task reads is not known beforehand"
        if arena.kind(number) in _SINKS:
            return "a sink"
        if node_draws(arena, number):
            return "sample, shuffle or a random rank without a seed"
        if _has_plugin(node):  # also one that says that it is deterministic
            return "a plugin: its code is not in the plan, and may be another one the next time"
    return None


def _has_plugin(node: object) -> bool:
    stack = [node]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if _PLUGIN in value:
                return True
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return False
