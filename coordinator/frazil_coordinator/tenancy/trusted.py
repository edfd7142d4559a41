"""Read who else says who asks, from a file of tenants: ``[[issuers]]`` and ``[kubernetes]`` (docs/tenants.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from frazil_coordinator.tenancy.issuers import Issuer
from frazil_coordinator.tenancy.kubernetes import Binding, Kubernetes
from frazil_coordinator.tenancy.roles import Role
from frazil_coordinator.tenancy.tables import made, tables, values
from frazil_functions.errors import RequestError

__all__ = ["read_issuers", "read_kubernetes"]

_ISSUER: Final[Mapping[str, object]] = {
    "issuer": str,
    "audience": str | tuple[str, ...],
    "jwks_url": str,
    "algorithms": tuple[str, ...],
    "leeway_s": int | float,
    "tenant": str,
    "tenant_claim": str | tuple[str, ...],
    "tenants": dict[str, str],
    "role": Role,
    "role_claim": str | tuple[str, ...],
    "roles": dict[str, Role],
    "keys_max_age_s": int | float,
    "keys_retry_s": int | float,
    "timeout_s": int | float,
    "ca_file": str,
}
_KUBERNETES: Final[Mapping[str, object]] = {
    "audiences": tuple[str, ...],
    "bindings": object,
    "issuer": str,
    "api_url": str,
    "token_file": str,
    "ca_file": str,
    "cache_s": int | float,
    "timeout_s": int | float,
}
_BINDING: Final[Mapping[str, object]] = {"service_account": str, "group": str, "tenant": str, "role": Role}
_ONE_OR_MORE: Final = ("audience", "tenant_claim", "role_claim")


def read_issuers(file: Path, value: object) -> tuple[Issuer, ...]:
    """Return the issuers of the tables ``[[issuers]]``.

    Raises
    ------
    RequestError
        When one says what it may not; the message names file, table and key.
    """
    return tuple(_issuer(file, place, one) for place, one in tables(file, "issuers", value))


def read_kubernetes(file: Path, value: object) -> Kubernetes | None:
    """Return the cluster of the table ``[kubernetes]``; None when there is no such table.

    Raises
    ------
    RequestError
        When it says what it may not, or the files that a pod of a cluster has are not there.
    """
    if value is None:
        return None
    given = values(file, "kubernetes", value, _KUBERNETES)
    _require(file, "kubernetes", given, ("audiences", "bindings"))
    given["bindings"] = tuple(_binding(file, *one) for one in tables(file, "kubernetes.bindings", given["bindings"]))
    made_here = made(f"{file}: [kubernetes]", lambda: Kubernetes(**given))  # type: ignore[arg-type]  # checked by values
    files = {"token_file": made_here.token_file, "ca_file": made_here.ca_file}
    _there(file, "kubernetes", files, tuple(files))
    return made_here


def _binding(file: Path, place: str, value: object) -> Binding:
    given = values(file, place, value, _BINDING)
    _require(file, place, given, ("tenant", "role"))
    return made(f"{file}: [{place}]", lambda: Binding(**given))  # type: ignore[arg-type]  # checked by values


def _issuer(file: Path, place: str, value: object) -> Issuer:
    given = values(file, place, value, _ISSUER)
    _require(file, place, given, ("issuer", "audience"))
    _there(file, place, given, ("ca_file",))
    for key in _ONE_OR_MORE:
        if isinstance(one := given.get(key), str):
            given[key] = (one,)
    for key in ("tenants", "roles"):
        if isinstance(mapping := given.get(key), dict):
            given[key] = MappingProxyType(mapping)
    return made(f"{file}: [{place}]", lambda: Issuer(**given))  # type: ignore[arg-type]  # checked by values


def _require(file: Path, place: str, given: Mapping[str, object], keys: tuple[str, ...]) -> None:
    if missing := [key for key in keys if key not in given]:
        raise RequestError(f"{file}: [{place}] {missing[0]} is missing")


def _there(file: Path, place: str, given: Mapping[str, object], keys: tuple[str, ...]) -> None:
    for key in keys:
        if key in given and not Path(str(given[key])).is_file():
            raise RequestError(f"{file}: [{place}] {key}: there is no file {given[key]}")
