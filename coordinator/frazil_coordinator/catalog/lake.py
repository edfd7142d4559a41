"""Tables of a lake by name: an Iceberg or Delta table, opened at one version, becomes a scan of that version's files.

What is read to find the files (metadata, manifests, the log) must lie where the tenant and the storage allow it, and so must
the files: :class:`Bounds`. pyiceberg and deltalake are imported when a table is opened. Next:
:mod:`~frazil_coordinator.catalog.datasets`, which makes scans of what polars calls datasets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import polars as pl

from frazil_coordinator.catalog.datasets import keep_versions, resolve_datasets
from frazil_coordinator.catalog.iceberg import iceberg_extra
from frazil_coordinator.catalog.model import Table
from frazil_coordinator.catalog.outside import Storage
from frazil_coordinator.refusals import ForbiddenError
from frazil_coordinator.tenancy import Tenant
from frazil_coordinator.tenancy.prefixes import lies_below
from frazil_functions.arena import Arena, Raw
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.errors import FrazilError, PlanError, RequestError, SourceError

if TYPE_CHECKING:
    from pyiceberg.table import Table as IcebergTable

__all__ = ["Bounds", "Opened", "iceberg_properties", "open_delta", "open_iceberg", "open_iceberg_at"]

_PLANNER: Final = "POLARS_ICEBERG_PLANNER"
_PROPERTIES: Final[Mapping[str, str]] = {
    "endpoint_url": "s3.endpoint", "endpoint": "s3.endpoint", "access_key_id": "s3.access-key-id",
    "secret_access_key": "s3.secret-access-key", "session_token": "s3.session-token", "region": "s3.region",
    "virtual_hosted_style_request": "s3.force-virtual-addressing",
    "azure_storage_account_name": "adls.account-name", "account_name": "adls.account-name",
    "azure_storage_account_key": "adls.account-key", "account_key": "adls.account-key",
    "azure_storage_sas_key": "adls.sas-token", "azure_storage_client_id": "adls.client-id",
    "azure_storage_client_secret": "adls.client-secret", "azure_storage_tenant_id": "adls.tenant-id",
    "azure_storage_token": "adls.token", "bearer_token": "gcs.oauth2.token",
}  # fmt: skip
"""pyiceberg's names of options of stores, as object_store has them without ``aws_``."""

_OF_ENVIRONMENT: Final[Mapping[str, tuple[str, ...]]] = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""What pyiceberg's file systems don't all read by themselves, and polars does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where a table's files may lie."""

    tenant: Tenant
    storage: Storage | None

    def check(self, path: str) -> None:
        """Refuse a path that is not the tenant's, or not where the storage's credentials are good.

        Raises
        ------
        ForbiddenError
            Naming the path and the folders.
        """
        prefixes = self.tenant.allowed_prefixes
        if prefixes is not None and not lies_below(path, prefixes):
            folders = ", ".join(prefixes) or "no folder at all"
            raise ForbiddenError(f"{path!r} is not allowed: tenant {self.tenant.name!r} may read and write below {folders}")
        if self.storage is not None and not self.storage.holds(path):
            raise ForbiddenError(
                f"{path!r} is not allowed: the storage {self.storage.name!r} is for files below "
                f"{', '.join(self.storage.prefixes)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A table at one version."""

    scan: pl.LazyFrame
    """Of its files; no Python object is in it."""

    location: str
    snapshot: str | None
    """Id of the snapshot, or version; None for an Iceberg table without rows."""


def iceberg_properties(options: Mapping[str, str]) -> dict[str, str]:
    """Return options of a store as pyiceberg's properties, with what the environment says where they are silent."""
    found: dict[str, str] = {}
    for name, variables in _OF_ENVIRONMENT.items():
        if value := next((os.environ[variable] for variable in variables if os.environ.get(variable)), None):
            found[name] = value
    for name, value in options.items():
        if (known := _PROPERTIES.get(name.lower().removeprefix("aws_"))) is not None:
            found[known] = value
    return found


def open_iceberg_at(table: Table, options: Mapping[str, str], bounds: Bounds) -> Opened:
    """Open an Iceberg table by its location: a ``.metadata.json``, or a folder whose ``version-hint.text`` names one.

    Parameters
    ----------
    table
        As it was written down.
    options
        Of its store.
    bounds
        Where it may lie.

    Raises
    ------
    ForbiddenError
        When a file lies elsewhere.
    SourceError, RequestError
        When it can't be read, or what the options ask for is not there.
    """
    bounds.check(table.location)
    properties = iceberg_properties(options)
    with iceberg_extra():
        from pyiceberg.table import StaticTable
    with _told(table.location, options):
        found = StaticTable.from_metadata(table.location, properties=properties)
    return open_iceberg(found, table.options, options, bounds)


def open_iceberg(
    table: IcebergTable, chosen: Mapping[str, object], options: Mapping[str, str], bounds: Bounds, name: str = ""
) -> Opened:
    """Make a scan of an Iceberg table's newest snapshot, or of those that `chosen` names.

    Parameters
    ----------
    table
        As its catalog, or its metadata, has it now; it is not asked again.
    chosen
        Arguments of ``pl.scan_iceberg``.
    options, bounds
        As :func:`open_iceberg_at`.
    name
        What errors call it; by default its place.
    """
    name = name or table.location()
    os.environ.setdefault(_PLANNER, "pyiceberg")  # the other planner's scans are a node of its own, which is not split
    with _told(name, options):
        snapshot = _check_metadata(table, chosen, bounds, name)
    given = dict(options) or None
    lf = pl.scan_iceberg(table, storage_options=cast("Any", given), **cast("dict[str, Any]", dict(chosen)))
    scan = _resolved(lf, name, options)
    return Opened(scan=_checked(scan, bounds), location=table.location(), snapshot=snapshot)


def _check_metadata(table: IcebergTable, chosen: Mapping[str, object], bounds: Bounds, name: str) -> str | None:
    """Refuse metadata that leads elsewhere, before it is followed; return the id of the snapshot that is read."""
    bounds.check(table.metadata_location)
    wanted = [chosen.get(key) for key in ("snapshot_id", "to_snapshot_id_inclusive")]
    number = next((one for one in wanted if one is not None), None)
    snapshot = table.current_snapshot() if number is None else table.snapshot_by_id(cast("int", number))
    if snapshot is None:
        if number is not None:
            raise RequestError(f"options: {name} has no snapshot {number}")
        return None
    bounds.check(snapshot.manifest_list)
    for manifest in snapshot.manifests(table.io):
        bounds.check(manifest.manifest_path)
    return str(snapshot.snapshot_id)


def open_delta(table: Table, options: Mapping[str, str], bounds: Bounds) -> Opened:
    """Open a Delta table by its folder, at its newest version or the one of its options; as :func:`open_iceberg_at`."""
    bounds.check(table.location)
    try:
        from deltalake import DeltaTable
    except ModuleNotFoundError as error:
        raise RequestError(
            f'Delta tables need more packages where the coordinator runs ({error}): pip install "frazil[delta]"'
        ) from error
    given, version = dict(options) or None, cast("int | str | None", table.options.get("version"))
    with _told(table.location, options):
        found = DeltaTable(table.location, storage_options=given)
        if version is not None:
            found.load_as_version(version)
    lf = pl.scan_delta(found, storage_options=cast("Any", given), credential_provider=None)
    scan = _resolved(lf, table.location, options)
    return Opened(scan=_checked(scan, bounds), location=table.location, snapshot=str(found.version()))


def _resolved(lf: pl.LazyFrame, name: str, options: Mapping[str, str]) -> pl.LazyFrame:
    """Return the scan of a table's files, without Python objects."""
    with _told(name, options):
        keep_versions()
        arena = Arena.of(lf)
        resolve_datasets(arena)
    for number in arena.reachable():
        arguments = arena.payload(number).get("unified_scan_args") if arena.kind(number) == "Scan" else None
        if isinstance(arguments, dict) and isinstance(stored := arguments.get("cloud_options"), dict):
            cast("Raw", stored)["credential_provider"] = None  # functions have their own, or the options' credentials
    if set(python_kinds([arena.nodes[number] for number in arena.reachable()])):
        raise PlanError(
            f"{name} can't be read here: rows of it are deleted in a way that only a Python reader knows (equality deletes, "
            "deletion vectors), or its files are no Parquet. Compact the table, and ask again"
        )
    return arena.lazy()


def _checked(scan: pl.LazyFrame, bounds: Bounds) -> pl.LazyFrame:
    from frazil_coordinator.plan.places import places_of

    for path in places_of(Arena.of(scan)):
        bounds.check(path)
    return scan


@contextmanager
def _told(name: str, options: Mapping[str, str]) -> Iterator[None]:
    """Say of any error which table it is about, and nothing of what it was opened with."""
    try:
        yield
    except FrazilError:
        raise
    except Exception as error:  # pyiceberg, deltalake, polars and their file systems have classes of all kinds
        lines = str(error).strip().splitlines() or [""]
        text = lines[0][:300]
        # What a schema's checker says shows what was read, which need not be a table.
        shown = "" if type(error).__name__ == "ValidationError" else f": {text}"
        for value in options.values():
            shown = shown.replace(value, "***") if len(value) > 3 else shown  # true, or a region's part
        if "version-hint.text" in shown:
            shown += ". Name a .metadata.json of the table, or ask for it by its catalog"
        raise SourceError(f"the table at {name} can't be read: {type(error).__name__}{shown}") from None
