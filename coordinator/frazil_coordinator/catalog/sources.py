"""From the name of a table to a scan of it, for one tenant: its own tables, and those of catalogs that it may use.

It joins what a tenant may (:mod:`frazil_coordinator.tenancy`), what the configuration names
(:mod:`~frazil_coordinator.catalog.outside`), and who opens it (:mod:`~frazil_coordinator.catalog.scans`,
:mod:`~frazil_coordinator.catalog.lake`, :mod:`~frazil_coordinator.catalog.iceberg`). All of it blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from frazil_coordinator.catalog.iceberg import Connections, Identifier, not_found
from frazil_coordinator.catalog.lake import Bounds, Opened, iceberg_properties, open_delta, open_iceberg, open_iceberg_at
from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, UnknownTableError
from frazil_coordinator.catalog.outside import IcebergCatalog, Outside, Storage
from frazil_coordinator.catalog.scans import scan_of
from frazil_coordinator.tenancy import Tenant, Tenants
from frazil_functions.arena import Arena, Raw
from frazil_functions.errors import RequestError

__all__ = ["Sources"]


class Sources:
    """What tables of tenants can be made of.

    Parameters
    ----------
    outside
        Storages and catalogs of the configuration.
    tenants
        Who may use which.

    Raises
    ------
    RequestError
        When a tenant is allowed a storage or a catalog that there is not.
    """

    def __init__(self, outside: Outside | None = None, tenants: Tenants | None = None) -> None:
        self._outside = outside or Outside()
        self._tenants = tenants or Tenants()
        self._connections = Connections(self._properties)
        for tenant in () if outside is None else self._tenants.by_name.values():
            for key, names, known in (
                ("allowed_catalogs", tenant.allowed_catalogs, self._outside.catalogs),
                ("allowed_storages", tenant.allowed_storages, self._outside.storages),
            ):
                if missing := [name for name in names or () if name not in known]:
                    raise RequestError(
                        f"[tenants.{tenant.name}] {key}: there is no {missing[0]!r} in the file of --catalogs: "
                        f"there are {', '.join(sorted(known)) or 'none'}"
                    )

    def catalogs(self, tenant: str) -> tuple[CatalogInfo, ...]:
        """Return the catalogs that a tenant may use, by name; none is asked."""
        found = self._allowed(self._tenants.get(tenant))
        return tuple(CatalogInfo(name=name, type=found[name].type, comment=found[name].comment) for name in sorted(found))

    def listed(self, tenant: str, catalog: str, namespace: str = "") -> tuple[CatalogTable, ...]:
        """Return the tables of a catalog, of all namespaces or of those below one (``a.b``), by name.

        Raises
        ------
        UnknownTableError
            When there is no such catalog, or it is not the tenant's to use: the answer is the same.
        RequestError, CatalogError
            As :meth:`Connections.names`.
        """
        found = self._catalog(self._tenants.get(tenant), catalog)
        names = self._connections.names(found, tuple(namespace.split(".")) if namespace else ())
        return tuple(
            CatalogTable(name=_quoted((found.name, *name)), catalog=found.name, namespace=name[:-1], table=name[-1])
            for name in names
        )

    def opened(self, tenant: str, table: Table) -> Opened:
        """Return the scan of a tenant's table; of one of a lake, at the version that is the newest now, or that it names.

        Raises
        ------
        RequestError, ForbiddenError
            When its storage is not the tenant's to use, it lies elsewhere than it may, or polars refuses an option.
        SourceError
            When an Iceberg or Delta table can't be read.
        """
        whose = self._tenants.get(tenant)
        storage = self._storage(whose, table.storage)
        bounds = Bounds(tenant=whose, storage=storage)
        options = table.storage_options if storage is None else storage.all_options()
        if table.format == "iceberg":
            return open_iceberg_at(table, options, bounds)
        if table.format == "delta":
            return open_delta(table, options, bounds)
        bounds.check(table.location)
        return Opened(scan=scan_of(table, options), location=table.location, snapshot=None)

    def opened_of(self, tenant: str, catalog: str, identifier: Identifier) -> Opened:
        """Return the scan of a table of a catalog, at the snapshot that is the newest now.

        Raises
        ------
        QueryError
            As polars' SQL does, when there is none, or the catalog is not the tenant's to use.
        ForbiddenError
            When its files lie elsewhere than the tenant's and its storage's folders.
        CatalogError, SourceError
            When the catalog, or the metadata of the table, can't be read.
        """
        whose = self._tenants.get(tenant)
        name = ".".join((catalog, *identifier))
        found = self._allowed(whose).get(catalog)
        if found is None:
            raise not_found(name, f"there is no catalog {catalog!r}")
        storage = None if found.storage is None else self._outside.storages[found.storage]
        options = {} if storage is None else storage.all_options()
        table = self._connections.load(found, identifier)
        return open_iceberg(table, {}, options, Bounds(tenant=whose, storage=storage), name)

    @property
    def has_secrets(self) -> bool:
        """Whether there is a storage with a secret."""
        return any(storage.secrets for storage in self._outside.storages.values())

    def without_secrets(self, plan: bytes) -> bytes:
        """Return a plan without the secrets of storages, for those who may see the plan and not them."""
        known = {value for storage in self._outside.storages.values() for value in storage.secret_values()}
        arena = Arena.decode(plan)
        changed = [_hide(arena.payload(number), known) for number in arena.reachable() if arena.kind(number) == "Scan"]
        return arena.encode() if any(changed) else plan

    def close(self) -> None:
        """Close the connections to catalogs."""
        self._connections.close()

    def _allowed(self, tenant: Tenant) -> dict[str, IcebergCatalog]:
        names = tenant.allowed_catalogs
        return {name: one for name, one in self._outside.catalogs.items() if names is None or name in names}

    def _catalog(self, tenant: Tenant, name: str) -> IcebergCatalog:
        found = self._allowed(tenant).get(name)
        if found is None:
            raise UnknownTableError(f"there is no catalog {name!r}")
        return found

    def _storage(self, tenant: Tenant, name: str) -> Storage | None:
        if not name:
            return None
        names = tenant.allowed_storages
        if name not in self._outside.storages or (names is not None and name not in names):
            raise RequestError(f"storage: there is no storage {name!r}: ask who runs the coordinator which there are")
        return self._outside.storages[name]

    def _properties(self, catalog: IcebergCatalog) -> Mapping[str, str]:
        storage = None if catalog.storage is None else self._outside.storages[catalog.storage]
        return iceberg_properties({} if storage is None else storage.all_options())


def _hide(scan: Raw, secrets: AbstractSet[str]) -> bool:
    """Take options out of a scan, in place, whose values are secrets; return whether there were any."""
    arguments = scan.get("unified_scan_args")
    options = arguments.get("cloud_options") if isinstance(arguments, dict) else None
    config = options.get("config") if isinstance(options, dict) else None
    if not isinstance(config, dict):
        return False
    changed = False
    for store, pairs in config.items():
        kept = [pair for pair in pairs if str(pair[1]) not in secrets] if isinstance(pairs, list) else pairs
        changed |= kept != pairs
        config[store] = kept
    return changed


def _quoted(parts: Identifier) -> str:
    """Return a name as SQL says it."""
    return ".".join(part if part.isidentifier() else '"' + part.replace('"', '""') + '"' for part in parts)
