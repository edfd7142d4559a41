"""Read the tenants of a coordinator from a TOML file (docs/tenants.md); an error names the file, the table and the key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast

import msgspec

from frazil_coordinator.tenancy.model import Role, Tenant, Tenants, Token
from frazil_coordinator.tenancy.prefixes import check_prefix
from frazil_functions.errors import RequestError

__all__ = ["read_tenants"]

_T = TypeVar("_T")

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
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{file}: not TOML: {error}") from error
    if unknown := sorted(document.keys() - {"tenants", "tokens"}):
        raise RequestError(f"{file}: unknown: {', '.join(unknown)}; there are the tables [tenants.NAME] and [[tokens]]")
    tables = _table(file, "tenants", document.get("tenants", {}))
    by_name = {name: _tenant(file, name, table) for name, table in tables.items()}
    tokens = document.get("tokens", [])
    if not by_name or not isinstance(tokens, list) or not tokens:
        raise RequestError(
            f"{file}: a tenant [tenants.NAME] and a token [[tokens]] are needed: nobody could ask for anything"
        )
    return _made(
        f"{file}: [[tokens]]",
        lambda: Tenants(
            by_name=MappingProxyType(by_name),
            tokens=tuple(_token(file, number, table) for number, table in enumerate(tokens, start=1)),
        ),
    )


def _tenant(file: Path, name: str, value: object) -> Tenant:
    place = f"tenants.{name}"
    values = _values(file, place, value, _TENANT)
    for prefix in cast("tuple[str, ...]", values.get("allowed_prefixes", ())):
        _made(f"{file}: [{place}] allowed_prefixes", lambda prefix=prefix: check_prefix(prefix))  # type: ignore[misc]  # bound now
    return _made(f"{file}: [{place}]", lambda: Tenant(name=name, **values))  # type: ignore[arg-type]  # checked by _values


def _token(file: Path, number: int, value: object) -> Token:
    place = f"tokens, number {number}"
    values = _values(file, place, value, _TOKEN)
    if missing := [knob.name for knob in fields(Token) if knob.name not in values]:
        raise RequestError(f"{file}: [{place}] {missing[0]} is missing")
    return _made(f"{file}: [{place}]", lambda: Token(**values))  # type: ignore[arg-type]  # checked by _values


def _values(file: Path, place: str, value: object, types: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a table, each of its type."""
    table = _table(file, place, value)
    found: dict[str, object] = {}
    for key, given in table.items():
        if key not in types:
            raise RequestError(f"{file}: [{place}] {key} is unknown: there are {', '.join(sorted(types))}")
        try:
            found[key] = msgspec.convert(given, type=types[key])
        except msgspec.ValidationError as error:
            raise RequestError(f"{file}: [{place}] {key}: {error}") from error
    return found


def _table(file: Path, place: str, value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RequestError(f"{file}: {place} must be a table")
    return value


def _made(place: str, make: Callable[[], _T]) -> _T:
    """Return what `make` returns; its refusal says where it belongs to."""
    try:
        return make()
    except RequestError as error:
        text = error.message if error.message.startswith(place.partition(":")[0]) else f"{place} {error.message}"
        raise RequestError(text) from error
