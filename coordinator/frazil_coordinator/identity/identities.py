"""Who can tell whose a token is: the issuer that it names, else a Kubernetes cluster.

Static tokens are looked at before, by :mod:`frazil_coordinator.api.auth`. Next: :mod:`~frazil_coordinator.identity.oidc`, or
:mod:`~frazil_coordinator.identity.reviews`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from frazil_coordinator.identity.claims import Identity
from frazil_coordinator.identity.oidc import IssuerCheck
from frazil_coordinator.identity.reviews import Reviews
from frazil_coordinator.identity.unproven import read_unproven
from frazil_coordinator.refusals import UnknownTokenError
from frazil_coordinator.tenancy import Tenants

__all__ = ["Identities"]


class Identities:
    """All who can tell whose a token is.

    Parameters
    ----------
    tenants
        Which issuers and cluster are trusted, and which tenants there are.
    clock
        Seconds since 1970, against which the times of tokens are held.
    monotonic
        Seconds that only rise, for the ages of what is kept.
    """

    def __init__(
        self,
        tenants: Tenants,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        known = frozenset(tenants.by_name)
        self._issuers = {
            issuer.issuer: IssuerCheck(issuer, known, clock=clock, monotonic=monotonic) for issuer in tenants.issuers
        }
        kubernetes = tenants.kubernetes
        self._reviews = None if kubernetes is None else Reviews(kubernetes, clock=clock, monotonic=monotonic)

    @classmethod
    def of(cls, tenants: Tenants) -> Identities | None:
        """Return those of `tenants`; None when nobody but the coordinator makes tokens for them."""
        return cls(tenants) if tenants.issuers or tenants.kubernetes else None

    async def identity_of(self, token: str) -> Identity:
        """Return whose `token` is.

        Raises
        ------
        InvalidTokenError
            When it is nobody's; the message says why and holds nothing of it.
        ForbiddenError
            When it is good, and gives a right to nothing here.
        AuthorityError
            When who could tell doesn't answer now.
        """
        unproven = read_unproven(token)
        if unproven is None:
            raise UnknownTokenError("the bearer token is not known here: it is neither one of the coordinator's nor a JWT")
        issuer = unproven.claims.get("iss")
        check = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if check is not None:  # its word is the last one
            return await check.identity_of(token, unproven)
        if self._reviews is not None and self._reviews.takes(unproven):
            return await self._reviews.identity_of(token, unproven)
        raise UnknownTokenError("the token is of an issuer that is not trusted here")
