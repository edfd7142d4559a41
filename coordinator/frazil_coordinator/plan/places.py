"""What a plan reads and writes, as it names it: paths, URLs and patterns. No store is asked.

It must see everything, so what it does not know is refused rather than passed over. Used by
:mod:`frazil_coordinator.admission`, before planning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.nodes import Scan
from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import PlanError

__all__ = ["places_of"]

_TABLE_FUNCTIONS: Final = re.compile(r"read_(csv|ipc|json|ndjson|parquet)", re.IGNORECASE)
"""Functions of SQL that read files. Looked for in the whole text: a comment or quotes can't hide one."""

_TARGETS: Final = {"File": "target", "Partitioned": "base_path"}


def places_of(arena: Arena) -> tuple[str, ...]:
    """Return every path that a plan names, each once, in order.

    Raises
    ------
    PlanError
        When a part of the plan may read or write something that can't be told from it.
    """
    found: dict[str, None] = {}
    for number in arena.reachable():
        found.update(dict.fromkeys(_of_node(arena, number)))
    return tuple(found)


def _of_node(arena: Arena, number: int) -> Iterator[str]:
    match arena.kind(number):
        case "Scan":
            yield from _of_scan(arena, number)
        case "SQL":
            payload = arena.payload(number)
            # Tables of catalogs are nodes of the plan, as relations are.
            if _TABLE_FUNCTIONS.search(str(payload.get("query"))):
                raise PlanError(
                    "a table function of SQL (read_parquet and such) is refused where a tenant's paths are checked: "
                    "scan the files with polars, and give SQL the LazyFrame"
                )
        case "Sink":
            yield _of_sink(arena.payload(number)["payload"])


def _of_scan(arena: Arena, number: int) -> Iterator[str]:
    node = decode_node(arena, number)
    if not isinstance(node, Scan):
        raise PlanError("a scan of an unknown form is refused where a tenant's paths are checked")
    yield from node.paths
    payload = arena.payload(number)
    unified = payload.get("unified_scan_args")
    if isinstance(unified, dict):
        # The files of deleted rows of an Iceberg table: their paths are somewhere among the values.
        yield from _texts(unified.get("deletion_files"))
    scan_type = payload.get("scan_type")
    for body in scan_type.values() if isinstance(scan_type, dict) else ():
        options = body.get("options") if isinstance(body, dict) else None
        if isinstance(options, dict) and options.get("path") is not None:
            yield from _texts(options["path"])


def _of_sink(payload: object) -> str:
    if isinstance(payload, dict) and len(payload) == 1:
        ((kind, body),) = cast("Raw", payload).items()
        target = body.get(_TARGETS.get(kind, "")) if isinstance(body, dict) else None
        inner = target.get("inner") if isinstance(target, dict) else target
        if isinstance(inner, str):
            return inner
    raise PlanError("a sink to something else than a path is refused where a tenant's paths are checked")


def _texts(value: object) -> Iterator[str]:
    """Yield all texts of a value that are no names of its members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _texts(one)
