"""Issuers of signed tokens (OpenID Connect, or any that publishes its keys), and what their claims stand for here: values.

Whether a token is one of theirs is found out by :mod:`frazil_coordinator.identity`; which tables they come from, by
:mod:`~frazil_coordinator.tenancy.trusted`.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from frazil_coordinator.tenancy.roles import Role
from frazil_functions.errors import RequestError

__all__ = ["ALGORITHMS", "Issuer", "check_seconds", "check_texts", "check_url"]

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""What a token may be signed with: with a key that only the issuer has. Neither ``none`` nor a secret (HS256) is here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Who signs tokens that are taken here, and what the claims of one give a right to.

    Raises
    ------
    RequestError
        When a value is out of its range, or the claims could give nobody a tenant or a role; the message begins with the
        name of the field.
    """

    issuer: str
    """The claim ``iss`` of its tokens, a URL, to the letter."""

    audience: tuple[str, ...]
    """One of these must be in the claim ``aud``: else a token for any other service would be good here."""

    jwks_url: str | None = None
    """Where its keys are. None: where ``<issuer>/.well-known/openid-configuration`` says."""

    algorithms: tuple[str, ...] = ("RS256",)
    """What its tokens may be signed with."""

    leeway_s: float = 30.0
    """By how much its clock and ours may differ: from 0 to 300 seconds."""

    tenant: str | None = None
    """Whose tenant all of its tokens are of."""

    tenant_claim: tuple[str, ...] | None = None
    """In place of `tenant`: name of the claim that says which, with the names of the objects that it is in before it."""

    tenants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Tenants by value of `tenant_claim`. With none, a value is the name of the tenant."""

    role: Role | None = None
    """Role of a token whose `role_claim` gives none. None: it is refused."""

    role_claim: tuple[str, ...] | None = None
    """Name of the claim that says which role, as in `tenant_claim`."""

    roles: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    """Roles by value of `role_claim`; of several, the one with most rights counts."""

    keys_max_age_s: float = 3600.0
    """Seconds for which a fetched key is trusted; fetched again after half of them. At least 60."""

    keys_retry_s: float = 10.0
    """Seconds between two looks at the keys, whatever asks for one; at least 1."""

    timeout_s: float = 5.0
    """Seconds that the issuer may take to answer; above 0, at most 30."""

    ca_file: str | None = None
    """PEM file of the authorities that its certificate is checked with. None: the public ones."""

    def __post_init__(self) -> None:
        check_url("issuer", self.issuer)
        check_texts("audience", self.audience)
        if self.jwks_url is not None:
            check_url("jwks_url", self.jwks_url, query=True)
        check_texts("algorithms", self.algorithms)
        if wrong := [one for one in self.algorithms if one not in ALGORITHMS]:
            raise RequestError(
                f"algorithms must be of {', '.join(ALGORITHMS)}, not {wrong[0]!r}: whoever can check a token "
                "must not be able to make one"
            )
        check_seconds("leeway_s", self.leeway_s, 0.0, 300.0)
        check_seconds("keys_max_age_s", self.keys_max_age_s, 60.0, 7 * 86400.0)
        check_seconds("keys_retry_s", self.keys_retry_s, 1.0, self.keys_max_age_s / 2)
        check_seconds("timeout_s", self.timeout_s, 0.001, 30.0)
        self._check_tenant()
        self._check_role()

    @property
    def names_tenants(self) -> tuple[str, ...]:
        """Names of tenants that must be there."""
        return (*((self.tenant,) if self.tenant is not None else ()), *self.tenants.values())

    def _check_tenant(self) -> None:
        if (self.tenant is None) == (self.tenant_claim is None):
            raise RequestError("tenant or tenant_claim is needed, and not both: whose are its tokens?")
        if self.tenant_claim is not None:
            check_texts("tenant_claim", self.tenant_claim)
        elif self.tenants:
            raise RequestError("tenants has no effect without tenant_claim")

    def _check_role(self) -> None:
        if self.role_claim is None:
            if self.roles:
                raise RequestError("roles has no effect without role_claim")
            if self.role is None:
                raise RequestError("role, or role_claim with roles, is needed: what do its tokens give a right to?")
            return
        check_texts("role_claim", self.role_claim)
        if not self.roles:
            raise RequestError("roles is needed with role_claim: a table of the claim's values and their roles")


def check_texts(name: str, texts: tuple[str, ...]) -> None:
    """Refuse what holds no text, or an empty one."""
    if not texts or not all(texts):
        raise RequestError(f"{name} must hold at least one text, and no empty one")


def check_seconds(name: str, value: float, least: float, most: float) -> None:
    """Refuse a time out of its range."""
    if not (math.isfinite(value) and least <= value <= most):
        raise RequestError(f"{name} must be from {least:g} to {most:g} seconds, not {value!r}")


def check_url(name: str, url: str, *, query: bool = False) -> None:
    """Refuse what is not a URL of a server whose identity is checked.

    Parameters
    ----------
    name
        Begins the message.
    url
        What is looked at. Without TLS, only this machine is asked.
    query
        Whether it may end in one.

    Raises
    ------
    RequestError
        When it is none; the text of a URL with a password in it is not repeated.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"{name} is no URL") from error
    if parts.username is not None or parts.password is not None:
        raise RequestError(f"{name} must hold no user and no password")
    if not host or parts.scheme not in ("https", "http") or parts.fragment or (parts.query and not query):
        raise RequestError(f"{name} must be a URL https://…, not {url!r}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise RequestError(f"{name} must begin with https://, not {url!r}: who answers could be anybody")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
