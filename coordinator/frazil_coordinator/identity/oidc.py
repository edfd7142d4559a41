"""Whether a token is one of an issuer's, is meant for us, and is good now (RFC 7519; RFC 8725 says what to look at).

The library proves the signature, issuer and audience. The times are compared here, with the clock that the coordinator was
given. What the claims give a right to: :mod:`~frazil_coordinator.identity.claims`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Final

import jwt

from frazil_coordinator.identity.claims import Identity, identity_from
from frazil_coordinator.identity.keys import KeyRing
from frazil_coordinator.identity.unproven import Unproven
from frazil_coordinator.refusals import ExpiredTokenError, InvalidTokenError
from frazil_coordinator.tenancy import Issuer

__all__ = ["IssuerCheck"]

_REQUIRED: Final = ("iss", "aud", "exp")
_WRONG: Final[tuple[tuple[type[jwt.PyJWTError], str], ...]] = (
    (jwt.InvalidSignatureError, "the token's signature is not its issuer's"),
    (jwt.InvalidAudienceError, "the token is not for this coordinator: its claim 'aud' names another audience"),
    (jwt.InvalidIssuerError, "the token is of another issuer than it says"),
)


class IssuerCheck:
    """Looks at the tokens of one issuer.

    Parameters
    ----------
    issuer
        Whose they are.
    known
        Names of the tenants that there are.
    clock, monotonic
        See :class:`~frazil_coordinator.identity.identities.Identities`.
    """

    def __init__(
        self, issuer: Issuer, known: Collection[str], *, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._known = known
        self._clock = clock
        self._keys = KeyRing(issuer, monotonic)

    async def identity_of(self, token: str, unproven: Unproven) -> Identity:
        """Return whose a token is.

        Raises
        ------
        InvalidTokenError, ForbiddenError, AuthorityError
            See :meth:`~frazil_coordinator.identity.identities.Identities.identity_of`.
        """
        algorithm, key_id = unproven.header.get("alg"), unproven.header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._issuer.algorithms:
            raise InvalidTokenError(
                f"the token is signed in another way than its issuer may here: {', '.join(self._issuer.algorithms)}"
            )
        if "crit" in unproven.header:  # RFC 7515, 4.1.11: who does not understand it must refuse
            raise InvalidTokenError("the token wants something to be understood (its header has 'crit') that is not here")
        if not isinstance(key_id, str | None):
            raise InvalidTokenError("the token's header has a 'kid' that is no text")
        claims = self._proven(token, await self._keys.find(key_id, algorithm), algorithm)
        self._check_times(claims)
        return identity_from(self._issuer, self._known, claims)

    def _proven(self, token: str, key: jwt.PyJWK, algorithm: str) -> Mapping[str, object]:
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer.issuer,
                audience=self._issuer.audience,
                options={"require": list(_REQUIRED), "verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.MissingRequiredClaimError as error:
            raise InvalidTokenError(f"the token has no claim '{error.claim}'") from None
        except jwt.PyJWTError as error:
            text = next((text for cls, text in _WRONG if isinstance(error, cls)), "the token is no well-formed JWT")
            raise InvalidTokenError(text) from None  # the library's text may repeat what the token says
        return claims

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now, leeway_s = self._clock(), self._issuer.leeway_s
        if now >= _time(claims, "exp", 0.0) + leeway_s:
            raise ExpiredTokenError("the token has expired: get a new one")
        if now < max(_time(claims, "nbf", now), _time(claims, "iat", now)) - leeway_s:
            raise InvalidTokenError(
                "the token is not valid yet: the clock of its issuer, or that of this coordinator, is wrong"
            )


def _time(claims: Mapping[str, object], name: str, otherwise: float) -> float:
    value = claims.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidTokenError(f"the token's claim '{name}' is no time")
    return float(value)
