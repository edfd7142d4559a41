"""Read the tenants of a coordinator from a TOML file (docs/tenants.md); an error names the file, the table and the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from frazil_coordinator.tenancy.model import Tenant, Tenants, Token
from frazil_coordinator.tenancy.prefixes import check_prefix
from frazil_coordinator.tenancy.roles import Role
from frazil_coordinator.tenancy.tables import made, read_toml, table, tables, values
from frazil_coordinator.tenancy.trusted import read_issuers, read_kubernetes
from frazil_functions.errors import RequestError

__all__ = ["read_tenants"]

_TENANT: Final[Mapping[str, object]] = {
    "weight": int | float,
    "max_running_tasks": int,
    "max_running_queries": int,
    "max_queued_queries": int,
    "max_bytes_scanned_per_day": int,
    "max_function_seconds_per_day": int | float,
    "max_result_bytes": int,
    "highest_priority": int,
    "allowed_prefixes": tuple[str, ...],
    "allowed_catalogs": tuple[str, ...],
    "allowed_storages": tuple[str, ...],
    "allow_udfs": bool,
}
_TOKEN: Final[Mapping[str, object]] = {"sha256": str, "tenant": str, "role": Role}


def read_tenants(file: Path) -> Tenants:
    """Return the tenants and tokens of a file.

    Raises
    ------
    RequestError
        When the file can't be read, is not TOML, or says what it may not; the message names file, table and key.
    """
    there = "[tenants.NAME], [[tokens]], [[issuers]] and [kubernetes]"
    document = read_toml(file, {"tenants", "tokens", "issuers", "kubernetes"}, there)
    by_name = {name: _tenant(file, name, one) for name, one in table(file, "tenants", document.get("tenants", {})).items()}
    if not by_name:
        raise RequestError(f"{file}: a tenant [tenants.NAME] is needed: nobody could ask for anything")
    tenants = made(
        f"{file}:",
        lambda: Tenants(
            by_name=MappingProxyType(by_name),
            tokens=tuple(_token(file, place, one) for place, one in tables(file, "tokens", document.get("tokens", []))),
            issuers=read_issuers(file, document.get("issuers", [])),
            kubernetes=read_kubernetes(file, document.get("kubernetes")),
        ),
    )
    if not tenants.guarded:
        raise RequestError(
            f"{file}: a token [[tokens]], an issuer [[issuers]] or a cluster [kubernetes] is needed: nobody could ask for "
            "anything"
        )
    return tenants


def _tenant(file: Path, name: str, value: object) -> Tenant:
    place = f"tenants.{name}"
    given = values(file, place, value, _TENANT)
    for prefix in cast("tuple[str, ...]", given.get("allowed_prefixes", ())):
        made(f"{file}: [{place}] allowed_prefixes", lambda prefix=prefix: check_prefix(prefix))  # type: ignore[misc]  # bound now
    return made(f"{file}: [{place}]", lambda: Tenant(name=name, **given))  # type: ignore[arg-type]  # checked by values


def _token(file: Path, place: str, value: object) -> Token:
    given = values(file, place, value, _TOKEN)
    if missing := [knob.name for knob in fields(Token) if knob.name not in given]:
        raise RequestError(f"{file}: [{place}] {missing[0]} is missing")
    return made(f"{file}: [{place}]", lambda: Token(**given))  # type: ignore[arg-type]  # checked by values
