"""Tenants, tokens, and all of them together: values. They come from :mod:`~frazil_coordinator.tenancy.config`."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from frazil_coordinator.tenancy.issuers import Issuer
from frazil_coordinator.tenancy.kubernetes import Kubernetes
from frazil_coordinator.tenancy.roles import Role
from frazil_functions.errors import RequestError

__all__ = ["DEFAULT_TENANT", "PRIORITIES", "Tenant", "Tenants", "Token", "digest_of"]

DEFAULT_TENANT: Final = "default"
"""Name of the one tenant of a coordinator without a file of tenants, and of queries from before there were any."""

PRIORITIES: Final = range(-10, 11)
"""What a query may ask for."""

_DIGEST_CHARS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One of those who share a coordinator.

    Raises
    ------
    RequestError
        When a value is out of its range; the message begins with the name of the field.
    """

    name: str
    weight: float = 1.0
    """Its part of the slots is its weight in those of all tenants that want some; above 0."""

    max_running_tasks: int | None = None
    """Tasks in flight at once, at least 1. None: as many as there are slots."""

    max_running_queries: int | None = None
    """Queries that are planned or run at once, at least 1; more of them wait. None: any."""

    max_queued_queries: int | None = None
    """Queries that wait at once; more of them are refused. None: any."""

    max_bytes_scanned_per_day: int | None = None
    """Compressed bytes that its queries scan in a day of UTC, at least 1. None: any."""

    max_function_seconds_per_day: float | None = None
    """Seconds that functions work for its queries in a day of UTC, above 0; one that runs when they are used up is finished.
    None: any."""

    max_result_bytes: int | None = None
    """Encoded bytes of one result, at least 1. None: any."""

    highest_priority: int = PRIORITIES[-1]
    """What its queries may ask for at most."""

    allowed_prefixes: tuple[str, ...] | None = None
    """Folders, as URLs or absolute paths, below which everything lies that its queries read and write. None: anywhere."""

    allowed_catalogs: tuple[str, ...] | None = None
    """Catalogs of the configuration that its statements may name. None: all."""

    allowed_storages: tuple[str, ...] | None = None
    """Storages of the configuration that its tables may name. None: all."""

    allow_udfs: bool = False
    """Whether its queries may hold Python functions where the coordinator allows them."""

    def __post_init__(self) -> None:
        if not self.name:
            raise RequestError("name must not be empty")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise RequestError(f"weight must be above 0, not {self.weight!r}")
        for name, value, least in (
            ("max_running_tasks", self.max_running_tasks, 1),
            ("max_running_queries", self.max_running_queries, 1),
            ("max_queued_queries", self.max_queued_queries, 0),
            ("max_bytes_scanned_per_day", self.max_bytes_scanned_per_day, 1),
            ("max_result_bytes", self.max_result_bytes, 1),
        ):
            if value is not None and value < least:
                raise RequestError(f"{name} must be at least {least}, not {value}")
        seconds = self.max_function_seconds_per_day
        if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
            raise RequestError(f"max_function_seconds_per_day must be above 0, not {seconds!r}")
        if self.max_queued_queries is not None and self.max_running_queries is None:
            raise RequestError("max_queued_queries has no effect without max_running_queries: no query would wait")
        if self.highest_priority not in PRIORITIES:
            raise RequestError(
                f"highest_priority must be from {PRIORITIES[0]} to {PRIORITIES[-1]}, not {self.highest_priority}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Who shows it acts for a tenant, in a role. The token itself is kept nowhere."""

    sha256: str
    """SHA-256 of the token, 64 lower-case hexadecimal digits."""

    tenant: str
    role: Role

    def __post_init__(self) -> None:
        if len(self.sha256) != _DIGEST_CHARS or not set(self.sha256) <= set("0123456789abcdef"):
            raise RequestError("sha256 must be 64 lower-case hexadecimal digits: `frazil token` makes one")

    @classmethod
    def of(cls, token: str, *, tenant: str = DEFAULT_TENANT, role: Role = Role.ADMIN) -> Token:
        """Return what is kept of a token."""
        return cls(sha256=digest_of(token), tenant=tenant, role=role)

    def is_of(self, digest: str) -> bool:
        """Return whether `digest` is that of the token, in a time that tells nothing of where they differ."""
        return hmac.compare_digest(self.sha256, digest)


def digest_of(token: str) -> str:
    """Return the SHA-256 of a token in hexadecimal digits.

    Notes
    -----
    No salt and no slow hash: a token has 256 random bits, so there is nothing to guess.
    """
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenants:
    """All tenants of a coordinator, their tokens, and who else says who asks.

    Raises
    ------
    RequestError
        When something is of a tenant that there is not, or two tokens or issuers are the same.
    """

    by_name: Mapping[str, Tenant] = field(
        default_factory=lambda: MappingProxyType({DEFAULT_TENANT: Tenant(name=DEFAULT_TENANT, allow_udfs=True)})
    )
    tokens: tuple[Token, ...] = ()

    issuers: tuple[Issuer, ...] = ()
    """Whose signed tokens are taken."""

    kubernetes: Kubernetes | None = None
    """Which cluster's tokens are taken."""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for token in self.tokens:
            self._check("[[tokens]]", token.tenant)
            if token.sha256 in seen:
                raise RequestError(f"[[tokens]] sha256 {token.sha256[:8]}… is there twice")
            seen.add(token.sha256)
        for issuer in self.issuers:
            for tenant in issuer.names_tenants:
                self._check(f"[[issuers]] {issuer.issuer}", tenant)
            if issuer.issuer in seen:
                raise RequestError(f"[[issuers]] {issuer.issuer} is there twice: give it all of its audiences in one table")
            seen.add(issuer.issuer)
        if self.kubernetes is not None:
            for binding in self.kubernetes.bindings:
                self._check("[[kubernetes.bindings]]", binding.tenant)
            if self.kubernetes.issuer in seen:
                raise RequestError(f"[kubernetes] issuer {self.kubernetes.issuer} is one of [[issuers]] too: which counts?")

    @property
    def guarded(self) -> bool:
        """Whether who asks must show who they are; if not, everybody is let in as an administrator."""
        return bool(self.tokens or self.issuers or self.kubernetes)

    def _check(self, place: str, tenant: str) -> None:
        if tenant not in self.by_name:
            raise RequestError(f"{place} there is no tenant {tenant!r}: there are {', '.join(sorted(self.by_name))}")

    def get(self, name: str) -> Tenant:
        """Return the tenant `name`; one that is not there any more, whose queries come from the journal, has no rights."""
        return self.by_name.get(name) or Tenant(
            name=name, highest_priority=PRIORITIES[0], allowed_prefixes=(), allowed_catalogs=(), allowed_storages=()
        )
