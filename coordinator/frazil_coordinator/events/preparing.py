"""What is done to a trigger's plan: looked through when it is stored, and pointed at objects and files for each window.

Pure, on the arena of the plan. A plan of a trigger ends in a sink; one or more of its scans read below the trigger's source.
Next: :mod:`frazil_coordinator.events.runner` submits what is made here like any query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import polars as pl

from frazil_coordinator.events.model import SinkFormat
from frazil_coordinator.plan.model import Sink
from frazil_coordinator.plan.sinks import take_sink
from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import PlanError, RequestError
from frazil_functions.scan_files import is_remote
from frazil_functions.sink import placed, sink_options

__all__ = ["TRIGGERS", "Target", "cloud_options_of", "over_objects", "scans_below", "sunk", "target_of", "to_place"]

TRIGGERS: Final = ".frazil-triggers"
"""Name of the folder, beside an output, that holds a folder for each trigger: of what waits to be published, and is kept."""

_SUFFIXES: Final[dict[str, SinkFormat]] = {
    ".csv": "csv", ".csv.gz": "csv", ".csv.zst": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson",
    ".ipc": "ipc", ".arrow": "ipc",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a trigger's output goes."""

    sink: Sink

    @property
    def many(self) -> bool:
        """Whether it is a folder, to which files are added."""
        return self.sink.kind != "file"

    def own_folder(self, trigger: str) -> str:
        """Return the key of the folder beside the output that a trigger has alone."""
        return "/".join(part for part in (self.sink.base, TRIGGERS, trigger) if part)

    def place(self, key: str) -> str:
        """Return the path or URL of a key of the sink's store."""
        return f"{self.sink.store.rstrip('/')}/{key}"


def target_of(plan: bytes) -> Target:
    """Return where the output of a plan goes; no file of the plan's is opened.

    Raises
    ------
    PlanError
        When it has no sink that functions can write.
    QueryError
        When the target can't be written, as far as this machine can tell.
    """
    sink = take_sink(Arena.decode(plan), ask_polars=False)
    if sink is None:
        raise PlanError(
            "a trigger's query must end in a sink: say sink=, or end the LazyFrame with sink_parquet(…, lazy=True)"
        )
    if sink.kind == "named":
        raise PlanError("a trigger can't write to a table of a lake: give it a folder of files")
    return Target(sink=sink)


def scans_below(arena: Arena, source: str) -> list[int]:
    """Return the scans that read objects of a source: all of their paths begin as its objects do."""

    def is_below(path: str) -> bool:
        plain = path.removeprefix("file://")
        literal = plain.split("*", 1)[0].split("?", 1)[0].split("[", 1)[0]
        if literal == plain:  # a file, or a folder
            return plain.startswith(source) or source.startswith(plain.rstrip("/") + "/")
        return literal.startswith(source) or source.startswith(literal)

    found = []
    for number in arena.reachable():
        paths = arena.scan_paths(number)
        if paths and all(is_below(path) for path in paths):
            found.append(number)
    return found


def cloud_options_of(plan: bytes, source: str) -> object:
    """Return the credentials and such with which a plan reads a source.

    Raises
    ------
    RequestError
        When it does not read it.
    """
    arena = Arena.decode(plan)
    scans = scans_below(arena, source)
    if not scans:
        read = [path for number in arena.reachable() for path in arena.scan_paths(number) or ()]
        raise RequestError(
            f"the query reads nothing below the source {source!r}, so new objects there would change nothing: it reads "
            f"{', '.join(read) or 'no files'}"
        )
    return _scan_args(arena, scans[0]).get("cloud_options")


def _scan_args(arena: Arena, number: int) -> Raw:
    return cast("Raw", arena.payload(number)["unified_scan_args"])


def over_objects(plan: bytes, source: str, urls: Sequence[str]) -> bytes:
    """Return a plan whose scans of a source read these objects, and no other."""
    arena = Arena.decode(plan)
    for number in scans_below(arena, source):
        scan = arena.payload(number)
        paths = arena.scan_paths(number) or []
        args = dict(_scan_args(arena, number))
        hive = dict(cast("Raw", args["hive_options"]))
        if hive.get("enabled") is None:  # polars decides by whether it was given a folder, and here it gets files
            hive["enabled"] = len(paths) == 1 and paths[0].endswith("/")
        args |= {"hive_options": hive, "glob": False}
        payload = {**scan, "unified_scan_args": args, "sources": {"Paths": [{"inner": url} for url in urls]}}
        arena.nodes[number] = {"Scan": payload}
    return arena.encode()


def to_place(plan: bytes, place: str) -> bytes:
    """Return a plan that writes to another place: the folder of its files, or the one file."""
    arena = Arena.decode(plan)
    node = placed(arena.nodes[arena.root], place)
    sink_options(node)["mkdir"] = True  # the place is ours
    arena.nodes[arena.root] = node
    return arena.encode()


def sunk(
    plan: bytes, sink: str, kind: SinkFormat | None, storage_options: dict[str, str], source: str, *, cloud: bool = True
) -> bytes:
    """Return a plan with a sink at its end.

    Parameters
    ----------
    plan
        A plan without one.
    sink, kind, storage_options
        Where to, in which format, and with which options.
    source
        The trigger's source.
    cloud
        Whether to write with the options with which the source is read, when none are given and both are of one kind of
        store.

    Raises
    ------
    PlanError
        When polars can't read the plan.
    RequestError
        When the place is none.
    """
    if not sink.startswith("/") and not is_remote(sink):
        raise RequestError(f"sink {sink!r} must be an absolute path or a URL: a folder ends with /")
    arena = Arena.decode(plan)
    if arena.kind(arena.root) == "Sink":
        raise RequestError("the plan has a sink already: leave out sink=, or the plan's own")
    lf = arena.lazy()
    write = {"parquet": lf.sink_parquet, "csv": lf.sink_csv, "ndjson": lf.sink_ndjson, "ipc": lf.sink_ipc}
    suffixes: list[SinkFormat] = [one for end, one in _SUFFIXES.items() if sink.endswith(end)]
    chosen: SinkFormat = kind or (suffixes or ["parquet"])[0]
    try:
        ended = write[chosen](  # type: ignore[operator]  # overloads by lazy=
            # A lazy sink to a folder that exists is refused by polars unless it is a URL.
            f"file://{sink}" if sink.endswith("/") and not is_remote(sink) else sink,
            lazy=True,
            storage_options=storage_options or None,
            credential_provider=None,
        )
    except (pl.exceptions.PolarsError, OSError, TypeError, ValueError) as error:
        raise RequestError(f"sink: {error}") from error
    made = Arena.of(ended)
    sink_options(made.nodes[made.root])["mkdir"] = True
    if cloud and not storage_options and is_remote(sink) and sink.split("://", 1)[0] == source.split("://", 1)[0]:
        options = sink_options(made.nodes[made.root])
        options["cloud_options"] = cloud_options_of(plan, source)
    return made.encode()
