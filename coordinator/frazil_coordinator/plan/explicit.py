"""Scans over explicit files: the user's scan node, with everything fixed that polars would learn from the set of its files.

A split of a scan must give the columns, order and dtypes of the whole scan: the schema is set, and so are the columns
that come from the names of folders (hive).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import msgspec
import polars as pl
from polars.exceptions import PolarsError

from frazil_coordinator.plan.nodes import Scan
from frazil_functions.arena import Arena, Raw
from frazil_functions.scan_files import FileStat, as_listed, is_remote, local_path
from frazil_functions.text_ranges import TEXT_FORMATS

__all__ = ["Unsplittable", "check_options", "explicit_scan", "scan_type_of", "with_paths"]

_WHOLE: Final = {
    "deletion_files": "deletion files",
    "resolve_heavy_sources": "sources resolved late",
}
_PLAIN_NAME: Final = re.compile(r"[^\"'\r\n]+")
_FORMATS: Final = frozenset({"Parquet", "Ipc", *TEXT_FORMATS})


class Unsplittable(Exception):  # noqa: N818  # a reason, not an error: the scan runs whole in one task
    """Why a scan can't be cut into splits."""


def check_options(node: Scan, arguments: Raw) -> None:
    """Raise :class:`Unsplittable` for options that only the whole scan can honour."""
    if node.format not in _FORMATS:
        raise Unsplittable(f"a scan of {node.format} files is not split")
    if not node.paths:
        raise Unsplittable("a scan of in-memory buffers is not split")
    for name, why in _WHOLE.items():
        if arguments.get(name) is not None:
            raise Unsplittable(f"a scan with {why} is not split")
    if "Negative" in cast("Raw", arguments.get("pre_slice") or {}):
        raise Unsplittable("a scan of its last rows is not split")


def explicit_scan(node: Scan, files: Sequence[FileStat], schema: pl.Schema) -> tuple[Raw, int]:
    """Return the scan over explicit files with its schema set, so that no file is read to learn it.

    Parameters
    ----------
    node
        The scan.
    files
        Its files.
    schema
        What the scan yields.

    Returns
    -------
    tuple of Raw and int
        The scan node, as a placeholder can be made of it, and where in the files' paths the names of hive partitions
        begin.

    Raises
    ------
    Unsplittable
        When the explicit files would give another table than the scan.
    """
    if not files:
        raise Unsplittable("a scan of no files is not split")
    if node.format in TEXT_FORMATS:
        return _text(node, schema), 0
    scan, hive_start = _columnar(node, files, schema)
    return _stand_in(scan, schema), hive_start


def scan_type_of(node: Scan) -> bytes:
    """Return the format and options of a scan, as `frazil_functions.task.ScanInput.scan_type` carries them."""
    return msgspec.msgpack.encode(cast("Raw", node.raw["Scan"])["scan_type"])


def with_paths(raw: Raw, paths: Sequence[str]) -> pl.LazyFrame:
    """Return the scan with other paths, which are not expanded."""
    own = cast("Raw", raw["Scan"])
    arena = Arena()
    arena.root = arena.add(
        _changed({"Scan": {**own, "sources": {"Paths": [{"inner": path} for path in paths]}}}, {"glob": False}, {})
    )
    return arena.lazy()


def _columnar(node: Scan, files: Sequence[FileStat], schema: pl.Schema) -> tuple[Raw, int]:
    arguments = cast("Raw", cast("Raw", node.raw["Scan"])["unified_scan_args"])
    hive = cast("Raw", arguments["hive_options"])
    # What a table of a lake tells of all its files says nothing of a split.
    off: Raw = {"pre_slice": None, "source_sizes": None, "row_count": None, "table_statistics": None}
    off["default_values"] = _of_all_files(arguments.get("default_values"))
    off["hive_options"] = {**hive, "enabled": False, "schema": None}
    plain = _changed(node.raw, off, {})
    try:
        explicit = with_paths(plain, [files[0].path]).collect_schema()
    except PolarsError as error:
        raise Unsplittable(f"its files can't be scanned one by one ({error})") from error
    set_schema = {"schema": _plain(_read(arguments, schema))} if node.format == "Parquet" else {}
    a_folder = len(node.paths) == 1 and _is_folder(node.paths[0])  # polars takes several paths as they are, unless told
    if hive["enabled"] is False or (hive["enabled"] is None and not a_folder):
        if explicit != schema:
            raise Unsplittable("a scan whose files give other columns one by one is not split")
        return _changed(plain, {}, set_schema), 0
    start = _hive_start(node.paths)
    names = {_partition_columns(file.path, start) for file in files}
    if len(names) > 1:
        raise Unsplittable("a scan whose folders (hive) name different columns is not split")
    keys = names.pop()
    if not keys and explicit == schema:
        return _changed(plain, {}, set_schema), 0
    # Columns that are both in the files and in the names of folders keep the order of the files: left to polars.
    partitioned = not set(keys) & set(explicit) and set(explicit) | set(keys) == set(schema)
    if not partitioned or any(schema[name] != dtype for name, dtype in explicit.items()):
        raise Unsplittable("a scan with columns from the names of its folders that are in its files too is not split")
    given = {**hive, "enabled": True, "hive_start_idx": start, "schema": _plain({key: schema[key] for key in keys})}
    changed = _changed(plain, {"hive_options": given, "expand_paths": False}, set_schema)
    if with_paths(changed, [files[0].path]).collect_schema() != schema:
        raise Unsplittable("a scan with columns from the names of its folders (hive) in an unusual order is not split")
    # The start is set with the files: polars takes none beyond the end of the placeholder's path.
    return _changed(changed, {"hive_options": {**given, "hive_start_idx": 0}}, {}), start


def _of_all_files(defaults: object) -> Raw | None:
    """Return the default values of a table that do not depend on the file (:mod:`~frazil_coordinator.plan.field_ids`)."""
    if defaults is None:
        return None
    ((kind, own),) = cast("dict[str, Raw]", defaults).items()
    if kind != "Iceberg":
        raise Unsplittable("a scan with default values is not split")
    return {kind: {**own, "identity_transformed_partition_fields": {}, "identity_partition_present": {}}}


def _stand_in(scan: Raw, schema: pl.Schema) -> Raw:
    """Return a Parquet scan of the same schema in the place of an IPC scan: polars opens an IPC file whatever is known."""
    own = cast("Raw", scan["Scan"])
    if "Parquet" in cast("Raw", own["scan_type"]):
        return scan
    parquet = Arena.of(pl.scan_parquet("schema", schema=_read(cast("Raw", own["unified_scan_args"]), schema), glob=False))
    return {"Scan": {**own, "scan_type": parquet.payload(parquet.root)["scan_type"]}}


def _text(node: Scan, schema: pl.Schema) -> Raw:
    own = cast("Raw", node.raw["Scan"])
    arguments = cast("Raw", own["unified_scan_args"])
    options = cast("Raw", cast("Raw", cast("Raw", own["scan_type"])[node.format])["options"])
    if node.format == "Csv" and not all(map(_PLAIN_NAME.fullmatch, schema)):
        raise Unsplittable("a scan of CSV files with columns of unusual names is not split")
    # The rows of a text file are not counted: what the splits give is sliced, and a row index is added to it.
    changed: Raw = {"row_index": None, "pre_slice": None}
    if node.format == "Csv" and not options["has_header"] and options["schema"] is None:
        # Without a schema, polars allows the first row of a file to be short, as any other row.
        changed["missing_columns_policy"] = "Insert"
    return _changed(node.raw, changed, {"schema": _plain(_read(arguments, schema)), "schema_overwrite": None})


def _read(arguments: Raw, schema: pl.Schema) -> dict[str, pl.DataType]:
    """Return the columns of `schema` that are read and not added by the scan's options."""
    index = cast("Raw", arguments.get("row_index") or {}).get("name")
    added = {index, arguments.get("include_file_paths")}
    return {name: dtype for name, dtype in schema.items() if name not in added}


def _plain(schema: Mapping[str, pl.DataType]) -> object:
    """Return a schema as plans write it."""
    stand_in = Arena.of(pl.scan_parquet("schema", schema=dict(schema), glob=False))
    scan_type = cast("Raw", stand_in.payload(stand_in.root)["scan_type"])
    return cast("Raw", cast("Raw", scan_type["Parquet"])["options"])["schema"]


def _changed(raw: Raw, arguments: Raw, options: Raw) -> Raw:
    """Return a scan node with some of its arguments and of its format's options changed."""
    own = cast("Raw", raw["Scan"])
    ((kind, scan_type),) = cast("dict[str, Raw]", own["scan_type"]).items()
    changed = {kind: {**scan_type, "options": {**cast("Raw", scan_type["options"]), **options}}}
    return {
        "Scan": {
            **own,
            "unified_scan_args": {**cast("Raw", own["unified_scan_args"]), **arguments},
            "scan_type": changed if options else own["scan_type"],
        }
    }


def _hive_start(paths: Sequence[str]) -> int:
    """Return where in the files' paths the names of partitions begin, as polars has it: below a folder."""
    if all("=" not in path for path in paths) or not any(_is_folder(path) for path in paths):
        return 0
    starts = {len(as_listed(path).rstrip("/")) for path in paths}
    if len(starts) > 1 or not all(map(_is_folder, paths)):
        raise Unsplittable("a scan of paths of several lengths with columns from the names of folders (hive) is not split")
    return starts.pop()


def _is_folder(path: str) -> bool:
    return path.endswith("/") or (not is_remote(path) and Path(local_path(path)).is_dir())


def _partition_columns(path: str, start: int) -> tuple[str, ...]:
    """Return the columns that the names of the folders of `path` give."""
    folders = path[start:].split("/")[:-1]
    return tuple(folder.partition("=")[0] for folder in folders if folder.count("=") == 1)
