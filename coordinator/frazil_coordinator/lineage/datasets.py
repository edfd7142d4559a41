"""What the tables and targets of a plan are called in OpenLineage. Pure functions: no store is asked.

Names follow https://openlineage.io/docs/spec/naming: the namespace is the store (``s3://bucket``, ``file``), the name is the
path in it. A dataset is a folder, or the one file that is named: what a pattern matches today is not part of its name.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import unquote, urlsplit

import polars as pl

from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.model import ScanSource, StageGraph
from frazil_coordinator.plan.nodes import Scan
from frazil_functions.arena import Arena

__all__ = ["Input", "Output", "inputs_of", "named", "output_of"]

_PATTERN: Final = re.compile(r"[*?\[{]")
_MORE: Final = re.compile(r" and \d+ more$")
_SCHEMES: Final = {"s3a": "s3", "gcs": "gs", "azure": "az"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A dataset that a query reads."""

    namespace: str
    name: str
    schema: Mapping[str, pl.DataType] | None = None
    """Its columns; None when they are not known."""

    files: int | None = None
    """Files that are read of it; None when nobody counted them."""

    bytes: int | None = None
    """Compressed bytes of the columns that are read, by the files' footers."""

    @classmethod
    def of(cls, paths: Sequence[str], source: ScanSource | None) -> Self:
        """Return the dataset of a scan, as it was planned if it was split."""
        namespace, name = named(paths)
        if source is None:
            return cls(namespace=namespace, name=name)
        schema = None if source.table is None else dict(source.table.schema)
        return cls(namespace=namespace, name=name, schema=schema, files=source.files, bytes=source.bytes or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A dataset that a query writes."""

    namespace: str
    name: str


def named(paths: Sequence[str]) -> tuple[str, str]:
    """Return namespace and name of the dataset that paths of one scan, or of a target, name.

    Credentials and queries of URLs are no part of either.
    """
    folders = [_without_pattern(path) for path in paths]
    places = [_place(folder) for folder in folders]
    namespace, name = places[0]
    if len(places) > 1:
        parts = [one.split("/") for space, one in places if space == namespace]
        name = "/".join(_common(parts)) or "/"
    return namespace, name


def inputs_of(plan: bytes, graph: StageGraph) -> tuple[Input, ...]:
    """Return the datasets that a query reads, each once, in the order of its plan.

    Parameters
    ----------
    plan
        As the user sent it: it names also what is not split.
    graph
        What it was cut into: it knows columns and sizes of what is.
    """
    planned = {_MORE.sub("", source.path): source for source in _scans(graph)}
    arena = Arena.decode(plan)
    found: dict[tuple[str, str], Input] = {}
    for number in arena.reachable():
        node = decode_node(arena, number)
        if isinstance(node, Scan) and node.paths:
            one = Input.of(node.paths, planned.get(node.paths[0]))
            known = found.get((one.namespace, one.name))
            if known is None or known.files is None:
                found[one.namespace, one.name] = one
    return tuple(found.values())


def output_of(graph: StageGraph) -> Output | None:
    """Return the dataset that a query writes; None when its rows go to its user."""
    if graph.sink is None:
        return None
    namespace, name = named([graph.sink.target])
    return Output(namespace=namespace, name=name)


def _scans(graph: StageGraph) -> Iterator[ScanSource]:
    for stage in graph.stages:
        yield from (source for source in stage.sources if isinstance(source, ScanSource))


def _without_pattern(path: str) -> str:
    """Return the path up to the first part of it that is a pattern; a web address has none, and may have a query."""
    if path.startswith(("http://", "https://")):
        return path.partition("?")[0]
    found = _PATTERN.search(path)
    return path if found is None else path[: path.rfind("/", 0, found.start()) + 1]


def _place(path: str) -> tuple[str, str]:
    if "://" not in path:
        return "file", posixpath.normpath(path) if path else "/"
    parts = urlsplit(path)
    name = parts.path.strip("/") or "/"
    if parts.scheme == "file":
        return "file", posixpath.normpath(unquote(parts.path)) or "/"
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    # abfss://container@account.dfs.core.windows.net is the name of a store; what stands there elsewhere is a credential.
    host = parts.netloc if scheme.startswith("abfs") else parts.netloc.rpartition("@")[2]
    return f"{scheme}://{host}", name


def _common(parts: Sequence[Sequence[str]]) -> list[str]:
    found: list[str] = []
    for together in zip(*parts, strict=False):
        if len(set(together)) > 1:
            break
        found.append(together[0])
    return found
