"""Columns by their numbers in an Iceberg table, which names them so in every file, whatever they are called there.

Values that a table keeps beside its files, one a file, stand for columns that a file lacks. Writers put partition columns
into their files, as the others, so mostly no file lacks one, and the scan may be cut; files that were added to a table
from elsewhere may. Used by :mod:`~frazil_coordinator.plan.tables` and :mod:`~frazil_coordinator.plan.pruning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from frazil_coordinator.plan.explicit import Unsplittable
from frazil_coordinator.plan.exprs import to_expr
from frazil_coordinator.plan.footers import Footer
from frazil_functions.arena import Raw

__all__ = ["check_defaults", "ids_of_columns", "names_in_file"]

_FIELD_ID: Final = b"PARQUET:field_id"


def names_in_file(metadata: pq.FileMetaData | None) -> dict[int, str]:
    """Return the number of each column of a Parquet file and its name there, with those inside of structs and lists."""
    if metadata is None:
        return {}
    try:
        schema = metadata.schema.to_arrow_schema()
    except pa.ArrowException:  # dtypes that pyarrow does not know
        return {}
    found: dict[int, str] = {}
    _collect(schema, "", found)
    return found


def _collect(fields: pa.Schema | pa.DataType, path: str, found: dict[int, str]) -> None:
    for number in range(len(fields.names) if isinstance(fields, pa.Schema) else fields.num_fields):
        field = fields.field(number)
        name = f"{path}{field.name}"
        if (own := (field.metadata or {}).get(_FIELD_ID)) is not None:
            found[int(own)] = name
        _collect(field.type, f"{name}.", found)


def ids_of_columns(arguments: Raw) -> dict[str, int]:
    """Return the columns of a scan of an Iceberg table and their numbers; nothing of any other.

    Parameters
    ----------
    arguments
        The ``unified_scan_args`` of the scan.

    Notes
    -----
    A table may have a mapping of names too. It is for files without numbers, of which nothing is known here.
    """
    mapping = cast("dict[str, Raw]", arguments.get("column_mapping") or {}).get("Iceberg")
    if mapping is None:
        return {}
    columns = cast("dict[int, Raw]", mapping["schema"])
    return {str(column["name"]): cast("int", column["physical_id"]) for column in columns.values()}


def check_defaults(arguments: Raw, footers: Sequence[Footer]) -> None:
    """Look whether every file holds the columns of which the table keeps a value for it.

    Parameters
    ----------
    arguments
        The ``unified_scan_args`` of the scan.
    footers
        Of its files, in their order.

    Raises
    ------
    Unsplittable
        When a file lacks one, so that its rows get their value by the number of the file among all.
    """
    given = cast("dict[str, Raw] | None", arguments.get("default_values"))
    if given is None:
        return
    known = set(ids_of_columns(arguments).values())
    present = cast("dict[int, dict[str, Raw]]", given["Iceberg"]["identity_partition_present"])
    ids = [frozenset(names_in_file(None if footer.parquet is None else footer.parquet.metadata)) for footer in footers]
    for column in cast("dict[int, Raw]", given["Iceberg"]["identity_transformed_partition_fields"]):
        lacking = any(kept and column not in own for own, kept in zip(ids, _flags(present[column]), strict=True))
        if lacking or column not in known:
            raise Unsplittable("a scan of files that lack columns by which their table is partitioned is not split")


def _flags(raw: dict[str, Raw]) -> list[bool]:
    """Return the values of a column as a plan writes it; one of a single value has that only."""
    ((kind, own),) = raw.items()
    data, length = (own["inner"], 1) if kind == "Series" else (own["unit_series"], cast("int", own["length"]))
    return [bool(flag) for flag in pl.select(to_expr({"Literal": {"Series": data}})).to_series()] * length
