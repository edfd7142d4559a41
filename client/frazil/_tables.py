"""The tables of a coordinator, as a mapping of names to LazyFrames: ``engine.tables``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

import polars as pl

from frazil._session import Session, TableSession
from frazil_coordinator.catalog.model import CatalogInfo, CatalogTable, Table, TableFormat, TableSource
from frazil_coordinator.catalog.scans import scan_of
from frazil_functions.errors import RequestError

__all__ = ["Tables", "table_session"]


def table_session(session: Session) -> TableSession:
    """Return a session as one that keeps tables.

    Raises
    ------
    RequestError
        When it keeps none.
    """
    if not isinstance(session, TableSession):
        raise RequestError("this engine keeps no tables")
    return cast("TableSession", session)


class Tables(Mapping[str, pl.LazyFrame]):
    """Names of tables and the LazyFrames that scan them. Each access asks the coordinator.

    Parameters
    ----------
    session
        The connection to it.
    """

    def __init__(self, session: TableSession) -> None:
        self._session = session

    def __getitem__(self, name: str) -> pl.LazyFrame:
        known = next((table for table in self.list() if table.name == name), None)
        if known is None:
            raise KeyError(name)
        return scan_of(known)

    def __contains__(self, name: object) -> bool:
        return any(table.name == name for table in self.list())

    def __iter__(self) -> Iterator[str]:
        return iter([table.name for table in self.list()])

    def __len__(self) -> int:
        return len(self.list())

    def list(self) -> tuple[Table, ...]:
        """Return what is known of the tables: location, format, options, columns, statistics, version."""
        return self._session.tables()

    def catalogs(self) -> tuple[CatalogInfo, ...]:
        """Return the catalogs of others whose tables :meth:`Engine.sql` may name: ``catalog.namespace.table``."""
        return self._session.catalogs()

    def of_catalog(self, catalog: str, namespace: str = "") -> tuple[CatalogTable, ...]:
        """Return the tables of a catalog, or those below one of its namespaces (``a.b``).

        Raises
        ------
        RequestError
            When there is no such catalog or namespace.
        StorageError
            When the catalog does not answer.
        """
        return self._session.catalog_tables(catalog, namespace)

    def describe(self, name: str) -> Table:
        """Return what is known of one table, or of one of a catalog: ``catalog.namespace.table``.

        Raises
        ------
        RequestError
            When there is none of that name.
        """
        return self._session.table(name)

    def put(
        self,
        name: str,
        location: str,
        *,
        format: TableFormat | None = None,  # noqa: A002  # as the API calls it
        options: Mapping[str, object] | None = None,
        storage_options: Mapping[str, str] | None = None,
        storage: str = "",
        comment: str = "",
        expected: int | None = None,
    ) -> Table:
        """Make or replace a table, after a look at its files.

        Parameters
        ----------
        name
            Letters, digits and ``_``.
        location
            File, folder or glob: an absolute path or a URL, as the coordinator and its functions see it.
        format
            ``parquet``, ``csv``, ``ndjson``, ``ipc``, ``iceberg`` or ``delta``. None: by the suffix, else Parquet.
        options
            Of polars' ``scan_*`` function: ``snapshot_id`` of an Iceberg table, ``version`` of a Delta table.
        storage_options
            Of the store, none of which may be a secret.
        storage
            Name of a storage of the coordinator's configuration, in place of `storage_options`.
        comment
            For people.
        expected
            Version that it replaces; 0: it must be new. None: whatever is there.

        Raises
        ------
        RequestError
            When a value is refused, or somebody else changed the table.
        UserError
            When its files can't be read.
        """
        source = TableSource(
            location=location,
            format=format,
            options=dict(options or {}),
            storage_options=dict(storage_options or {}),
            storage=storage,
            comment=comment,
        )
        return self._session.put_table(name, source, expected=expected)

    def drop(self, name: str, *, expected: int | None = None) -> None:
        """Drop a table; its files stay.

        Raises
        ------
        RequestError
            When there is none, or it is not of the version `expected`.
        """
        self._session.drop_table(name, expected=expected)
