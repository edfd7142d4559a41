"""What lies outside of a coordinator and has a name in its configuration: storages with credentials, and catalogs. Values.

A secret is named here, not held: it is read from a variable or a file whenever it is needed, so that a new one needs no
restart. The tables of a file: :mod:`~frazil_coordinator.catalog.config`; who opens catalogs:
:mod:`~frazil_coordinator.catalog.iceberg`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from frazil_coordinator.catalog.model import NAME_PATTERN
from frazil_coordinator.tenancy.prefixes import check_prefix, lies_below
from frazil_functions.errors import RequestError

__all__ = ["CatalogKind", "IcebergCatalog", "Outside", "Secret", "Storage"]

CatalogKind: TypeAlias = Literal["rest", "sql"]

_NAME: Final = re.compile(NAME_PATTERN)
_SECRET_WORDS: Final = (
    "secret", "token", "password", "credential", "access-key", "access_key", "account-key", "account_key", "sas", "auth",
    "ssl.client", "service_account", "header.",
)  # fmt: skip
_NOT_SECRET: Final = ("authority", "oauth2-server-uri", "expires")
_SET_HERE: Final = frozenset({"uri", "warehouse", "type", "init_catalog_tables", "echo", "py-catalog-impl", "py-io-impl"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Where a secret is: ``env:VARIABLE`` or ``file:/path``.

    Raises
    ------
    RequestError
        When it is written in another way; the text is not repeated, because it may be the secret itself.
    """

    place: str

    def __post_init__(self) -> None:
        kind, _, name = self.place.partition(":")
        if kind not in ("env", "file") or not name or (kind == "file" and not Path(name).is_absolute()):
            raise RequestError(
                "a secret must be named as 'env:VARIABLE' or 'file:/absolute/path', never be written down here"
            )

    def read(self) -> str:
        """Return the secret as it is now.

        Raises
        ------
        RequestError
            When it is not there, or empty.
        """
        kind, _, name = self.place.partition(":")
        if kind == "env":
            value = os.environ.get(name, "")
        else:
            try:
                value = Path(name).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise RequestError(f"the secret {self.place} can't be read: {type(error).__name__}") from None
        if not value:
            raise RequestError(f"the secret {self.place} is not set, or empty")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Options and credentials of an object store, under a name that tables say.

    Raises
    ------
    RequestError
        When a value is out of its range; the message begins with the name of the field.
    """

    name: str
    prefixes: tuple[str, ...]
    """Folders below which it is good: nothing else is asked with its credentials."""

    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """As polars' ``storage_options``; none is a secret."""

    secrets: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    """Options that are secrets."""

    _seen: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Values that its secrets had."""

    def __post_init__(self) -> None:
        _check_name("storage", self.name)
        if not self.prefixes:
            raise RequestError("prefixes must name at least one folder: where its credentials may be used")
        for prefix in self.prefixes:
            check_prefix(prefix)
        _check_plain("options", self.options)

    def holds(self, path: str) -> bool:
        """Return whether a path lies where its credentials are good."""
        return lies_below(path, self.prefixes)

    def secret_values(self) -> tuple[str, ...]:
        """Return what its secrets are, and were since this process has read them first."""
        self._seen.update(secret.read() for secret in self.secrets.values())
        return tuple(self._seen)

    def all_options(self) -> dict[str, str]:
        """Return its options with the secrets, read now.

        Raises
        ------
        RequestError
            When a secret is not there.
        """
        read = {name: secret.read() for name, secret in self.secrets.items()}
        self._seen.update(read.values())
        return {**self.options, **read}


@dataclass(frozen=True, slots=True, kw_only=True)
class IcebergCatalog:
    """A catalog of Iceberg tables that somebody else keeps, under the name that SQL says.

    Raises
    ------
    RequestError
        When a value is out of its range; the message begins with the name of the field.
    """

    name: str
    type: CatalogKind
    """``rest``: the Iceberg REST protocol; ``sql``: a database, as pyiceberg and Iceberg's JDBC catalog keep it."""

    uri: str | Secret
    """URL of the REST service or of the database."""

    warehouse: str | None = None
    catalog_name: str | None = None
    """What a database calls it. None: as SQL does."""

    properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Of pyiceberg; none is a secret."""

    secrets: Mapping[str, Secret] = field(default_factory=lambda: MappingProxyType({}))
    """Properties of pyiceberg that are secrets, such as ``credential`` and ``token``."""

    storage: str | None = None
    """Name of the storage that its files are read with. None: the environment's credentials."""

    timeout_s: float = 20.0
    """Seconds that a REST catalog may take for an answer; above 0, at most 300."""

    comment: str = ""

    def __post_init__(self) -> None:
        _check_name("catalog", self.name)
        if isinstance(self.uri, str):
            _check_uri(self.uri, rest=self.type == "rest")
        if not 0 < self.timeout_s <= 300:
            raise RequestError(f"timeout_s must be above 0 and at most 300, not {self.timeout_s!r}")
        _check_plain("properties", self.properties)
        for name in (*self.properties, *self.secrets):
            if name in _SET_HERE:
                raise RequestError(
                    f"properties: {name} is none: uri and warehouse are keys of their own, the others are set"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """All storages and catalogs of a coordinator.

    Raises
    ------
    RequestError
        When a catalog names a storage that there is not, or two names differ in nothing but case.
    """

    storages: Mapping[str, Storage] = field(default_factory=lambda: MappingProxyType({}))
    catalogs: Mapping[str, IcebergCatalog] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for catalog in self.catalogs.values():
            if catalog.storage is not None and catalog.storage not in self.storages:
                raise RequestError(f"[catalogs.{catalog.name}] storage: there is no [storage.{catalog.storage}]")
        if len({name.lower() for name in self.catalogs}) < len(self.catalogs):
            raise RequestError("[catalogs] two names differ in case only, which SQL does not look at")

    def secrets(self) -> tuple[Secret, ...]:
        """Return all secrets that are named."""
        stored = [secret for storage in self.storages.values() for secret in storage.secrets.values()]
        given = [secret for catalog in self.catalogs.values() for secret in catalog.secrets.values()]
        uris = [catalog.uri for catalog in self.catalogs.values() if isinstance(catalog.uri, Secret)]
        return (*stored, *given, *uris)


def _check_name(what: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise RequestError(f"{name!r} is no name of a {what}: letters, digits and _, not a digit first, at most 128")


def _check_plain(place: str, options: Mapping[str, str]) -> None:
    """Refuse options that look like secrets, whose values would be in a file that many may read."""
    for name in options:
        lower = name.lower()
        if any(word in lower for word in _SECRET_WORDS) and not any(word in lower for word in _NOT_SECRET):
            raise RequestError(
                f"{place}: {name} may be a secret: name it under secrets, as {name} = 'env:VARIABLE' or 'file:/path'"
            )


def _check_uri(uri: str, *, rest: bool) -> None:
    """Refuse what is no URL, and one with a password, which is not repeated."""
    try:
        parts = urlsplit(uri)
        password = parts.password
    except ValueError as error:
        raise RequestError("uri is no URL") from error
    if password is not None:
        raise RequestError("uri must hold no password: take uri out, and name it under secrets, as uri = 'env:VARIABLE'")
    if not parts.scheme or (rest and (parts.scheme not in ("http", "https") or not parts.hostname)):
        raise RequestError(f"uri must be a URL of {'https://' if rest else 'a database, as postgresql+psycopg2://'}…")
