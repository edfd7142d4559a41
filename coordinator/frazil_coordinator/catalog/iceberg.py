"""Catalogs of Iceberg tables that others keep: connecting, listing, loading. Blocking; pyiceberg is imported when asked.

A connection is kept and used by all, and made anew after it failed, with the secrets as they are then. No error of a catalog
leaves here as it is: its text may hold a credential. Next, for what is loaded: :mod:`~frazil_coordinator.catalog.lake`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from frazil_coordinator.catalog.model import CatalogError
from frazil_coordinator.catalog.outside import IcebergCatalog, Secret
from frazil_functions.errors import QueryError, RequestError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from requests import PreparedRequest, Response, Session

__all__ = ["Connections", "Identifier", "iceberg_extra", "not_found"]

Identifier: TypeAlias = tuple[str, ...]

_T = TypeVar("_T")
_LOGGER = logging.getLogger(__name__)

_MOST_NAMESPACES: Final = 1_000
"""Namespaces that are listed of one catalog; each is a request or two."""

_REFUSED: Final = ("UnauthorizedError", "ForbiddenError", "AuthorizationExpiredError", "OAuthError")
_SQLITE: Final = "sqlite"


@contextmanager
def iceberg_extra() -> Iterator[None]:
    """Say what to install when an import inside fails.

    Raises
    ------
    RequestError
        When pyiceberg, or what it needs, is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise RequestError(
            f'Iceberg tables need more packages where the coordinator runs ({error}): pip install "frazil[iceberg]"'
        ) from error


def not_found(name: str, why: str) -> QueryError:
    """Return what polars' SQL says of an unknown table, and why."""
    return QueryError(f"relation '{name}' was not found: {why}", exception="SQLInterfaceError")


class Connections:
    """Connections to catalogs, made when one is first asked. Safe from several threads.

    Parameters
    ----------
    properties_of
        Gives the properties of pyiceberg for the files of a catalog: those of its storage.
    """

    def __init__(self, properties_of: Callable[[IcebergCatalog], Mapping[str, str]]) -> None:
        self._properties_of = properties_of
        self._lock = threading.Lock()
        self._open: dict[str, Catalog] = {}

    def load(self, catalog: IcebergCatalog, identifier: Identifier) -> Table:
        """Return a table as it is now: 1 request, and for a database 1 GET of its metadata.

        Raises
        ------
        QueryError
            When there is none; its message is the one of polars' SQL.
        CatalogError
            When the catalog does not answer, or refuses the coordinator.
        """
        name = ".".join((catalog.name, *identifier))
        if len(identifier) < 2:  # a namespace and a name
            raise not_found(name, f"a table of the catalog {catalog.name!r} is named as {catalog.name}.namespace.table")
        found = self._asked(catalog, lambda opened: _loaded(opened, identifier))
        if isinstance(found, str):
            raise not_found(name, f"the catalog {catalog.name!r} has no {found} (its names are case-sensitive)")
        return found

    def names(self, catalog: IcebergCatalog, namespace: Identifier = ()) -> list[Identifier]:
        """Return the names of a catalog's tables, of all namespaces below `namespace`: 2 requests each.

        Raises
        ------
        RequestError
            When there is no such namespace, or too many are below it; `CatalogError` as :meth:`load`.
        """
        found = self._asked(catalog, lambda opened: _names(opened, namespace))
        if found is None:
            raise RequestError(f"the catalog {catalog.name!r} has no namespace {'.'.join(namespace)!r}")
        return found

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            opened, self._open = list(self._open.values()), {}
        for one in opened:
            _close(one)

    def _asked(self, catalog: IcebergCatalog, ask: Callable[[Catalog], _T]) -> _T:
        """Ask a catalog; when one that answered before does not, once more by a new connection."""
        with self._lock:
            known = self._open.get(catalog.name)
        if known is not None:
            try:
                return ask(known)
            except RequestError:
                raise
            except Exception as error:  # drivers and file systems of all kinds are behind it
                _LOGGER.info("catalog asked again", extra={"catalog": catalog.name, "error": type(error).__name__})
        try:
            opened = _connected(catalog, self._properties_of(catalog))
            with self._lock:
                replaced, self._open[catalog.name] = self._open.get(catalog.name), opened
            if replaced is not None:
                _close(replaced)
            return ask(opened)
        except (CatalogError, RequestError):
            raise
        except Exception as error:  # as above
            _LOGGER.warning("catalog failed", extra={"catalog": catalog.name, "error": type(error).__name__})
            raise _told(catalog, error) from None  # its text may hold what it was asked with


def _close(opened: Catalog) -> None:
    with suppress(Exception):  # nobody waits for what becomes of a connection that is given up
        opened.close()


def _told(catalog: IcebergCatalog, error: Exception) -> CatalogError:
    kind = type(error).__name__
    if kind in _REFUSED:
        return CatalogError(
            f"the catalog {catalog.name!r} refuses the coordinator's credentials ({kind}): ask who runs the coordinator"
        )
    if isinstance(error, (PermissionError, FileNotFoundError)):
        return CatalogError(f"the metadata of a table of the catalog {catalog.name!r} can't be read ({kind})")
    return CatalogError(
        f"the catalog {catalog.name!r} can't be reached, or does not answer as one ({kind}): try again later"
    )


def _loaded(opened: Catalog, identifier: Identifier) -> Table | str:
    """Return a table, or what there is not."""
    from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

    try:
        return opened.load_table(identifier)
    except (NoSuchTableError, NoSuchNamespaceError):
        space = identifier[:-1]
        there = _has_namespace(opened, space)
        return f"table {'.'.join(identifier)!r}" if there else f"namespace {'.'.join(space)!r}"


def _has_namespace(opened: Catalog, namespace: Identifier) -> bool:
    from pyiceberg.exceptions import NoSuchNamespaceError

    try:
        return bool(opened.namespace_exists(namespace))
    except NoSuchNamespaceError:
        return False


def _names(opened: Catalog, namespace: Identifier) -> list[Identifier] | None:
    if namespace and not _has_namespace(opened, namespace):
        return None
    found: list[Identifier] = []
    waiting, seen = [namespace], 0
    while waiting:
        space = waiting.pop()
        seen += 1
        if seen > _MOST_NAMESPACES:
            raise RequestError(f"the catalog has more than {_MOST_NAMESPACES:,} namespaces here: name one, as namespace=a.b")
        waiting += [tuple(one) for one in opened.list_namespaces(space) if len(one) > len(space)]
        if space:
            found += [tuple(one) for one in opened.list_tables(space)]
    return sorted(set(found))


def _connected(catalog: IcebergCatalog, storage: Mapping[str, str]) -> Catalog:
    """Connect to a catalog; for a REST catalog that is 1 request, and 1 for a token."""
    uri = catalog.uri.read() if isinstance(catalog.uri, Secret) else catalog.uri
    secrets = {name: secret.read() for name, secret in catalog.secrets.items()}
    properties = {**storage, **catalog.properties, **secrets, "uri": uri}
    if catalog.warehouse is not None:
        properties["warehouse"] = catalog.warehouse
    with iceberg_extra():
        if catalog.type == "rest":
            return _rest(catalog, properties)
        return _sql(catalog, properties)


def _rest(catalog: IcebergCatalog, properties: dict[str, str]) -> Catalog:
    from pyiceberg.catalog.rest import RestCatalog
    from requests.adapters import HTTPAdapter

    class _Bounded(HTTPAdapter):
        """Gives up on a server that does not answer; requests waits for ever."""

        def send(
            self,
            request: PreparedRequest,
            stream: bool = False,  # as requests calls it
            timeout: object = None,
            verify: bool | str = True,
            cert: object = None,
            proxies: dict[str, str] | None = None,
        ) -> Response:
            given = cast("Any", timeout or catalog.timeout_s)
            return super().send(request, stream, given, verify, cast("Any", cert), proxies)

    class _Rest(RestCatalog):
        def _config_headers(self, session: Session) -> None:
            # The first thing that is done with a session, before a token is asked for.
            for scheme in ("https://", "http://"):
                session.mount(scheme, _Bounded())
            super()._config_headers(session)

    if "credential" in properties:  # what pyiceberg takes by itself, but for a warning
        properties.setdefault("oauth2-server-uri", f"{properties['uri'].rstrip('/')}/v1/oauth/tokens")
    return _Rest(catalog.name, **properties)


def _sql(catalog: IcebergCatalog, properties: dict[str, str]) -> Catalog:
    from pyiceberg.catalog.sql import SqlCatalog

    if (parts := urlsplit(properties["uri"])).scheme.startswith(_SQLITE) and not Path(parts.path[1:]).is_file():
        # sqlite would make an empty one
        raise CatalogError(f"the catalog {catalog.name!r} can't be reached: there is no file of its database")
    return SqlCatalog(catalog.catalog_name or catalog.name, **properties, init_catalog_tables="false", type="sql")
