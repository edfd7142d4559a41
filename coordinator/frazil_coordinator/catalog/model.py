"""What a table is: values, what may be said of one, and how it is written down.

A table holds no secret. Whoever reads it does so with the credentials of the coordinator's and the functions' environment,
or with those of the storage that it names (:mod:`~frazil_coordinator.catalog.outside`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from frazil_functions.errors import RequestError, StorageError

__all__ = [
    "NAME_PATTERN",
    "CatalogError",
    "CatalogInfo",
    "CatalogTable",
    "Column",
    "Statistics",
    "Table",
    "TableConflictError",
    "TableFormat",
    "TableSource",
    "UnknownTableError",
    "check_name",
]

TableFormat: TypeAlias = Literal["parquet", "csv", "ndjson", "ipc", "iceberg", "delta"]

NAME_PATTERN: Final = "^[A-Za-z_][A-Za-z0-9_]{0,127}$"
"""What a table may be called."""

_NAME: Final = re.compile(NAME_PATTERN)
_SCHEMES: Final = ("s3://", "s3a://", "gs://", "gcs://", "az://", "azure://", "adl://", "abfs://", "abfss://", "file://")
_SUFFIXES: Final[Mapping[str, TableFormat]] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson",
    ".ipc": "ipc", ".arrow": "ipc", ".feather": "ipc", ".metadata.json": "iceberg",
}  # fmt: skip

_Texts: TypeAlias = str | list[str]
_OPTIONS: Final[Mapping[TableFormat, Mapping[str, object]]] = {
    "parquet": {
        "hive_partitioning": bool, "try_parse_hive_dates": bool, "missing_columns": Literal["insert", "raise"],
        "extra_columns": Literal["ignore", "raise"], "glob": bool,
    },
    "csv": {
        "has_header": bool, "separator": str, "comment_prefix": str, "quote_char": str | None, "skip_rows": int,
        "null_values": _Texts, "missing_utf8_is_empty_string": bool, "ignore_errors": bool,
        "infer_schema_length": int | None, "encoding": Literal["utf8", "utf8-lossy"], "try_parse_dates": bool,
        "eol_char": str, "truncate_ragged_lines": bool, "decimal_comma": bool, "glob": bool, "new_columns": list[str],
    },
    "ndjson": {"infer_schema_length": int | None, "ignore_errors": bool},
    "ipc": {"hive_partitioning": bool, "try_parse_hive_dates": bool, "glob": bool},
    "iceberg": {"snapshot_id": int, "from_snapshot_id_exclusive": int, "to_snapshot_id_inclusive": int},
    "delta": {"version": int | str},
}  # fmt: skip
"""Options of the ``scan_*`` function of each format that may be kept, and their types."""

_STORAGE_OPTIONS: Final = frozenset(
    {
        "aws_region", "region", "aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint", "aws_allow_http",
        "allow_http",
        "aws_virtual_hosted_style_request", "virtual_hosted_style_request", "aws_skip_signature", "skip_signature",
        "google_skip_signature", "azure_storage_account_name", "account_name", "azure_skip_signature", "max_retries",
        "retry_timeout_ms",
    }
)  # fmt: skip
"""Options of stores that are no secrets."""


class UnknownTableError(RequestError):
    """The tenant has no such table."""


class CatalogError(StorageError):
    """A catalog of others does not answer, or refuses the coordinator; the message names it, and holds no credential."""


class TableConflictError(RequestError):
    """The table is not of the version that was named, or somebody changed it at the same time."""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column."""

    name: str
    dtype: str
    """As Polars writes it: ``Int64``, ``List(String)``."""


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What was known of a table's files when it was written down; they may have changed since."""

    files: int | None = None
    rows: int | None = None
    rows_bound: str = "unknown"
    """``exact``, ``at_most``, ``about`` or ``unknown``."""

    bytes: int | None = None
    """Compressed bytes of all columns, by the files' footers."""

    snapshot: str | None = None
    """Of an Iceberg table the id of its snapshot, of a Delta table its version: those that were read."""


class TableSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says of a table."""

    location: str
    """File, folder or glob: an absolute path or a URL."""

    format: TableFormat | None = None
    """None: by the location's suffix, else Parquet."""

    options: dict[str, object] = {}
    """Of polars' ``scan_*`` function."""

    storage_options: dict[str, str] = {}
    """Of the store; no secrets."""

    storage: str = ""
    """Name of a storage of the coordinator's configuration, whose options and credentials it is read with. Empty: none."""

    comment: str = ""

    def checked(self) -> TableSource:
        """Return the same with its format.

        Raises
        ------
        RequestError
            When a value is not what it may be, or an option is unknown or may be a secret.
        """
        if not self.location.startswith(("/", *_SCHEMES)):
            raise RequestError(f"location {self.location!r} must be an absolute path, or a URL of {', '.join(_SCHEMES)}")
        if "@" in self.location.partition("://")[2].partition("/")[0] and not self.location.startswith("abfs"):
            raise RequestError("location must not hold a user or a password")
        kind = self.format or _format_of(self.location)
        known = _OPTIONS[kind]
        for name, value in self.options.items():
            if name not in known:
                raise RequestError(
                    f"options: {name} is unknown or not kept for {kind}: there are {', '.join(sorted(known))}"
                )
            try:
                msgspec.convert(value, type=known[name])
            except msgspec.ValidationError as error:
                raise RequestError(f"options: {name}: {error}") from error
        if self.storage and self.storage_options:
            raise RequestError(f"storage_options: the storage {self.storage!r} has options of its own; leave these out")
        for name in self.storage_options:
            if name.lower() not in _STORAGE_OPTIONS:
                raise RequestError(
                    f"storage_options: {name} is not kept, because it may be a secret: tables are read with the credentials "
                    "of the coordinator's and the functions' environment, or of the storage that they name; kept are "
                    f"{', '.join(sorted(_STORAGE_OPTIONS))}"
                )
        return msgspec.structs.replace(self, format=kind)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A named table."""

    name: str
    location: str
    format: TableFormat
    options: dict[str, object] = {}
    storage_options: dict[str, str] = {}
    storage: str = ""
    comment: str = ""
    columns: tuple[Column, ...] = ()
    """As the files had them when it was written down."""

    statistics: Statistics = Statistics()
    version: int = 0
    """1 when it is made, and one more with each change; its entity tag."""

    changed_unix_s: float = 0.0


class CatalogTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a catalog that somebody else keeps, as it is listed: its metadata is not read for that."""

    name: str
    """As SQL says it: ``catalog.namespace.table``, with quotes where they are needed."""

    catalog: str
    namespace: tuple[str, ...]
    table: str


class CatalogInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A catalog that a tenant may use; where it is, and with what it is asked, is not told."""

    name: str
    type: str
    """``rest`` or ``sql``."""

    comment: str = ""


def check_name(name: str) -> str:
    """Return `name`.

    Raises
    ------
    RequestError
        When it is no name of a table.
    """
    if _NAME.fullmatch(name) is None:
        raise RequestError(f"{name!r} is no name of a table: letters, digits and _, not a digit first, at most 128")
    return name


def _format_of(location: str) -> TableFormat:
    for suffix, kind in _SUFFIXES.items():
        if location.lower().endswith(suffix):
            return kind
    return "parquet"
