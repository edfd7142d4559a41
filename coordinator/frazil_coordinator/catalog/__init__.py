"""Named tables of tenants, and SQL over them (docs/tables.md).

A table is a name for files: where they lie, their format, how they are read; or it is one of a catalog that others keep.
:mod:`~frazil_coordinator.catalog.model` says what one is, :mod:`~frazil_coordinator.catalog.versions` keeps them in the
object store, :mod:`~frazil_coordinator.catalog.sources` makes scans of them for who may read them,
:mod:`~frazil_coordinator.catalog.parameters` binds values to a statement, and :mod:`~frazil_coordinator.catalog.plans` makes
its plan. Nothing here plans or runs; next is :mod:`frazil_coordinator.statements`.
"""

from frazil_coordinator.catalog.model import Table, TableConflictError, TableSource, UnknownTableError
from frazil_coordinator.catalog.versions import Catalog

__all__ = ["Catalog", "Table", "TableConflictError", "TableSource", "UnknownTableError"]
