"""Read storages and catalogs from a TOML file (docs/tables.md); an error names the file, the table and the key.

The values: :mod:`~frazil_coordinator.catalog.outside`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from frazil_coordinator.catalog.outside import CatalogKind, IcebergCatalog, Outside, Secret, Storage
from frazil_coordinator.tenancy.tables import made, read_toml, table, values
from frazil_functions.errors import RequestError

__all__ = ["read_outside"]

_STORAGE: Final[Mapping[str, object]] = {
    "prefixes": tuple[str, ...],
    "options": dict[str, str],
    "secrets": dict[str, str],
}
_CATALOG: Final[Mapping[str, object]] = {
    "type": CatalogKind,
    "uri": str,
    "warehouse": str,
    "catalog_name": str,
    "properties": dict[str, str],
    "secrets": dict[str, str],
    "storage": str,
    "timeout_s": int | float,
    "comment": str,
}


def read_outside(file: Path) -> Outside:
    """Return the storages and catalogs of a file, whose secrets are all there.

    Raises
    ------
    RequestError
        When the file can't be read, is not TOML, says what it may not, or names a secret that is not there. The message
        names file, table and key, and no value that may be a secret.
    """
    document = read_toml(file, {"storage", "catalogs"}, "[storage.NAME] and [catalogs.NAME]")
    storages = {name: _storage(file, name, one) for name, one in table(file, "storage", document.get("storage", {})).items()}
    catalogs = {
        name: _catalog(file, name, one) for name, one in table(file, "catalogs", document.get("catalogs", {})).items()
    }
    outside = made(
        f"{file}:",
        lambda: Outside(storages=MappingProxyType(storages), catalogs=MappingProxyType(catalogs)),
    )
    for secret in outside.secrets():
        made(f"{file}:", secret.read)
    return outside


def _storage(file: Path, name: str, value: object) -> Storage:
    place = f"storage.{name}"
    given = values(file, place, value, _STORAGE)
    _require(file, place, given, "prefixes")
    _name_secrets(file, place, given)
    return made(f"{file}: [{place}]", lambda: Storage(name=name, **given))  # type: ignore[arg-type]  # checked by values


def _catalog(file: Path, name: str, value: object) -> IcebergCatalog:
    place = f"catalogs.{name}"
    given = values(file, place, value, _CATALOG)
    _require(file, place, given, "type")
    _name_secrets(file, place, given)
    secrets = given.get("secrets")
    if isinstance(secrets, dict) and "uri" in secrets:
        if "uri" in given:
            raise RequestError(f"{file}: [{place}] uri is there twice: as a key, and under secrets")
        given["uri"] = secrets["uri"]
        given["secrets"] = {key: secret for key, secret in secrets.items() if key != "uri"}
    _require(file, place, given, "uri")
    return made(f"{file}: [{place}]", lambda: IcebergCatalog(name=name, **given))  # type: ignore[arg-type]  # as above


def _name_secrets(file: Path, place: str, given: dict[str, object]) -> None:
    """Make values of the places of secrets."""
    named = given.get("secrets")
    if isinstance(named, dict):
        found = {}
        for key, where in named.items():
            found[key] = made(f"{file}: [{place}] secrets: {key}:", lambda where=where: Secret(place=where))  # type: ignore[misc]  # bound now
        given["secrets"] = found


def _require(file: Path, place: str, given: Mapping[str, object], key: str) -> None:
    if key not in given:
        raise RequestError(f"{file}: [{place}] {key} is missing")
