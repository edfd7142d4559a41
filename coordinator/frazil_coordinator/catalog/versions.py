"""Tables in the object store: one object a version, each created once by a conditional PUT and never changed.

``<prefix>/<tenant in hex>/<name>/<version, 8 digits>``: the greatest version is the table; one without a body says that it
was dropped. It is never deleted, so that a version is never given twice; smaller ones are deleted when a greater one is
there. Every coordinator on the store may call these. They block.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final

import msgspec

from frazil_coordinator.catalog.model import Table, TableConflictError, UnknownTableError, check_name
from frazil_functions.errors import BlockError, FrazilError, StorageError
from frazil_functions.storage import Store

if TYPE_CHECKING:
    from frazil_coordinator.catalog.outside import Outside
    from frazil_coordinator.catalog.sources import Sources
    from frazil_coordinator.tenancy import Tenants

__all__ = ["Catalog"]

_LOGGER = logging.getLogger(__name__)

_DROPPED: Final = b""
_TRIES: Final = 8
"""Times that a listing is taken anew because what it named is gone; each is due to a change by somebody else."""


class Catalog:
    """The tables of all tenants.

    Parameters
    ----------
    store
        Where they are kept.
    prefix
        Key prefix that they have alone.
    tenants
        Whose they are. None: one tenant without limits.
    """

    def __init__(self, store: Store, prefix: str = "catalog", *, tenants: Tenants | None = None) -> None:
        self._store = store
        self._prefix = prefix
        self._tenants = tenants
        self.sources = _sources(None, tenants)
        """What tables are made of."""

    def attach(self, outside: Outside) -> None:
        """Know the storages and catalogs of a configuration from now on.

        Raises
        ------
        RequestError
            When a tenant may use one that is not there.
        """
        self.sources.close()
        self.sources = _sources(outside, self._tenants)

    def list(self, tenant: str) -> tuple[Table, ...]:
        """Return a tenant's tables by name: 1 LIST, and 1 GET each."""
        return self._all(tenant, self._newest(tenant))

    def some(self, tenant: str, names: AbstractSet[str]) -> tuple[Table, ...]:
        """Return those of these tables that there are: 1 LIST, and 1 GET each."""
        newest = self._newest(tenant)
        return self._all(tenant, {name: newest[name] for name in newest.keys() & names})

    def _all(self, tenant: str, newest: Mapping[str, int]) -> tuple[Table, ...]:
        found = (self._find(tenant, name, newest[name]) for name in sorted(newest))
        return tuple(table for table in found if table is not None)

    def get(self, tenant: str, name: str) -> Table:
        """Return a table: 1 LIST, 1 GET.

        Raises
        ------
        UnknownTableError
            When the tenant has none of that name.
        """
        table = self._find(tenant, check_name(name), self._newest(tenant).get(name, 0))
        if table is None:
            raise UnknownTableError(f"there is no table {name!r}")
        return table

    def put(self, tenant: str, table: Table, expected: int | None = None) -> Table:
        """Make or replace a table: 2 LIST, 1 GET, 1 conditional PUT, 1 DELETE.

        Parameters
        ----------
        tenant, table
            Whose table, and what it becomes; its version is given here.
        expected
            Version that it replaces; 0: there must be none. None: whatever is there.

        Raises
        ------
        TableConflictError
            When it is of another version.
        """
        return self._change(tenant, check_name(table.name), table, expected)

    def drop(self, tenant: str, name: str, expected: int | None = None) -> None:
        """Drop a table; its files stay. Requests and errors as :meth:`put`.

        Raises
        ------
        UnknownTableError
            When there is none.
        """
        self.get(tenant, name)
        self._change(tenant, name, None, expected)

    def _change(self, tenant: str, name: str, table: Table | None, expected: int | None) -> Table:
        for _ in range(_TRIES):
            newest = self._newest(tenant).get(name, 0)
            try:
                now = self._read(tenant, name, newest) if newest else None
            except BlockError:
                continue  # a greater version came since it was listed, and this one was deleted for it
            if expected is not None and expected != (0 if now is None else now.version):
                raise TableConflictError(
                    f"the table {name!r} is {'not there' if now is None else f'of version {now.version}'}, and not "
                    f"{'new' if expected == 0 else f'of version {expected}'}: read it, and change it again"
                )
            version = newest + 1
            made = Table(name=name, location="", format="parquet") if table is None else table
            made = msgspec.structs.replace(made, version=version)
            body = _DROPPED if table is None else msgspec.json.encode(made)
            if self._created(self._key(tenant, name, version), body, tenant, name, version):
                self._clean(tenant, name, version)
                return made
        raise TableConflictError(f"the table {name!r} is changed by others all the time: try again")

    def _created(self, key: str, body: bytes, tenant: str, name: str, version: int) -> bool:
        if not self._store.create(key, body):
            return False
        if self._newest(tenant).get(name, 0) == version:
            return True
        # This process slept since it looked: a greater version is there, and this one was deleted for it.
        self._store.delete([key])
        return False

    def _clean(self, tenant: str, name: str, version: int) -> None:
        folder = f"{self._folder(tenant)}/{name}"
        try:
            older = [found.key for found in self._store.list(folder) if _version_of(found.key) < version]
            self._store.delete(older)
        except FrazilError as error:
            _LOGGER.warning("old versions of a table not deleted", extra={"table": name, "error": type(error).__name__})

    def _find(self, tenant: str, name: str, newest: int) -> Table | None:
        """Return a table whose newest version was listed, 0 for none; lists again when a greater one came meanwhile."""
        for _ in range(_TRIES):
            if newest == 0:
                return None
            try:
                return self._read(tenant, name, newest)
            except BlockError:
                newest = self._newest(tenant).get(name, 0)
        raise StorageError(f"the table {name!r} is changed by others all the time: try again")

    def _read(self, tenant: str, name: str, version: int) -> Table | None:
        body = self._store.get(self._key(tenant, name, version))
        if body == _DROPPED:
            return None
        try:
            return msgspec.json.decode(body, type=Table)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise StorageError(f"the table {name!r} was written by another version of Frazil: {error}") from error

    def _newest(self, tenant: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self._store.list(self._folder(tenant)):
            name = one.key.split("/")[-2]
            found[name] = max(found.get(name, 0), _version_of(one.key))
        return found

    def _folder(self, tenant: str) -> str:
        return f"{self._prefix}/{tenant.encode().hex()}"

    def _key(self, tenant: str, name: str, version: int) -> str:
        return f"{self._folder(tenant)}/{name}/{version:08d}"


def _sources(outside: Outside | None, tenants: Tenants | None) -> Sources:
    from frazil_coordinator.catalog.sources import Sources  # clients import this package for its values

    return Sources(outside, tenants)


def _version_of(key: str) -> int:
    return int(key.rpartition("/")[2])
