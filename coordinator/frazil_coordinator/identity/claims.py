"""What the claims of a token that is proven give a right to: a question about values, which nobody is asked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from frazil_coordinator.refusals import ForbiddenError
from frazil_coordinator.tenancy import Issuer, Role

__all__ = ["Identity", "identity_from"]

_RISING: Final = (Role.NOTIFY, Role.READ, Role.SUBMIT, Role.ADMIN)
_SPACED: Final = frozenset({"scope", "scp"})
"""Claims that are lists in one text (RFC 8693, 4.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose a token is, and what it gives a right to."""

    tenant: str
    role: Role


def identity_from(issuer: Issuer, known: Collection[str], claims: Mapping[str, object]) -> Identity:
    """Return whose a token of `issuer` with these claims is.

    Parameters
    ----------
    issuer
        Whose token it is, and what claims stand for.
    known
        Names of the tenants that there are.
    claims
        Of the token. They are proven.

    Raises
    ------
    ForbiddenError
        When they give no tenant, more than one, or no role; the message names the claim, and not its value.
    """
    return Identity(tenant=_tenant(issuer, known, claims), role=_role(issuer, claims))


def _tenant(issuer: Issuer, known: Collection[str], claims: Mapping[str, object]) -> str:
    if issuer.tenant is not None:
        return issuer.tenant
    path = issuer.tenant_claim or ()  # an Issuer has one of them
    names = _values(claims, path)
    found = {issuer.tenants.get(name) for name in names} if issuer.tenants else {*names} & {*known}
    found.discard(None)
    claim = ".".join(path)
    if not found:
        raise ForbiddenError(f"the token is good, but its claim '{claim}' names no tenant of this coordinator")
    if len(found) > 1:
        raise ForbiddenError(f"the token is good, but its claim '{claim}' names {len(found)} tenants: it must name one")
    return str(found.pop())


def _role(issuer: Issuer, claims: Mapping[str, object]) -> Role:
    values = () if issuer.role_claim is None else _values(claims, issuer.role_claim)
    found = [issuer.roles[value] for value in values if value in issuer.roles]
    if found:
        return max(found, key=_RISING.index)
    if issuer.role is None:
        claim = ".".join(issuer.role_claim or ())
        raise ForbiddenError(f"the token is good, but its claim '{claim}' gives no role in this coordinator")
    return issuer.role


def _values(claims: Mapping[str, object], path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of a claim: it is one, or a list of some."""
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    if isinstance(found, str):
        return tuple(found.split(" ")) if path[-1] in _SPACED else (found,)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()
