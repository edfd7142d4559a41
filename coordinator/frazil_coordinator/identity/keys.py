"""The keys of one issuer: fetched when they are needed, kept for a while, and looked for again when a token names a new one.

When they are fetched
    never were; are older than half of `keys_max_age_s`; or lack the one that a token names. But never more often than once
    in `keys_retry_s`, whoever asks for whatever: a flood of made-up names costs the issuer no more than one.

When it can't be reached
    the keys that were fetched are good until they are `keys_max_age_s` old. After that, and for one that is not among them,
    nobody can tell, and nobody is let in.

What a fetched document holds: :mod:`~frazil_coordinator.identity.jwks`. Who uses a key:
:mod:`~frazil_coordinator.identity.oidc`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

import jwt

from frazil_coordinator.identity.fetching import FetchError, fetch_json
from frazil_coordinator.identity.jwks import PublicKey, public_keys
from frazil_coordinator.refusals import AuthorityError, InvalidTokenError
from frazil_coordinator.tenancy import Issuer
from frazil_coordinator.tenancy.issuers import check_url
from frazil_functions.errors import RequestError

__all__ = ["KeyRing"]

_LOGGER = logging.getLogger(__name__)

_DISCOVERY: Final = "/.well-known/openid-configuration"


class KeyRing:
    """The keys of an issuer.

    Parameters
    ----------
    issuer
        Where they are, and for how long they are good.
    monotonic
        Seconds that only rise.
    """

    def __init__(self, issuer: Issuer, monotonic: Callable[[], float]) -> None:
        self._issuer = issuer
        self._now = monotonic
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_s = -math.inf
        self._tried_s = -math.inf
        self._failed = False
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK:
        """Return the key that a token names, to prove one algorithm.

        Parameters
        ----------
        key_id
            What it is called. None: the token does not say, which is enough where there is but one.
        algorithm
            What the token is signed with.

        Raises
        ------
        InvalidTokenError
            When the issuer has no such key.
        AuthorityError
            When it can't be asked whether it has.
        """
        if self._age_s() > self._issuer.keys_max_age_s:
            await self._look_again(lambda: self._age_s() > self._issuer.keys_max_age_s)
            if self._age_s() > self._issuer.keys_max_age_s:
                raise self._unreachable()
        elif self._is_ageing() and not self._fetching.locked():  # one request waits for it, and no other
            await self._look_again(self._is_ageing)
        key = self._present(key_id, algorithm)
        if key is None:
            await self._look_again(lambda: self._present(key_id, algorithm) is None)
            key = self._present(key_id, algorithm)
        if key is not None:
            return key.proving(algorithm)
        if self._failed:
            raise self._unreachable()
        raise InvalidTokenError(
            "the token is signed with a key that its issuer does not publish for that algorithm; keys are looked for again "
            f"every {math.ceil(self._issuer.keys_retry_s)} s at most"
        )

    def _present(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        fitting = [key for key in self._keys if algorithm in key.algorithms and key_id in (None, key.id)]
        return fitting[0] if len(fitting) == 1 else None

    def _age_s(self) -> float:
        return self._now() - self._fetched_s

    def _is_ageing(self) -> bool:
        return self._age_s() > self._issuer.keys_max_age_s / 2

    def _wait_s(self) -> float:
        """Return the seconds until the issuer may be asked again."""
        return self._tried_s + self._issuer.keys_retry_s - self._now()

    async def _look_again(self, wanted: Callable[[], bool]) -> None:
        """Fetch the keys, when that is still wanted once those who fetch are done, and it is not too soon."""
        async with self._fetching:
            if not wanted() or self._wait_s() > 0:
                return
            self._tried_s = self._now()
            try:
                self._keys = await self._fetched()
            except FetchError as error:
                self._failed = True
                _LOGGER.warning("no keys of an issuer", extra={"issuer": self._issuer.issuer, "reason": str(error)})
            else:
                self._failed = False
                self._fetched_s = self._now()

    async def _fetched(self) -> tuple[PublicKey, ...]:
        """Return the keys that the issuer publishes: one request, or two when it is asked where they are."""
        issuer = self._issuer
        url = issuer.jwks_url or await self._discovered()
        document = await fetch_json(url, timeout_s=issuer.timeout_s, ca_file=issuer.ca_file)
        keys = public_keys(document)
        if keys is None:
            raise FetchError("answered what is no set of keys (RFC 7517)")
        return keys

    async def _discovered(self) -> str:
        """Return where the keys are (OpenID Connect Discovery 1.0, 4)."""
        issuer = self._issuer
        url = issuer.issuer.rstrip("/") + _DISCOVERY
        document = await fetch_json(url, timeout_s=issuer.timeout_s, ca_file=issuer.ca_file)
        if document.get("issuer") != issuer.issuer:  # 4.3: else it speaks for somebody else
            raise FetchError("its openid-configuration is another issuer's")
        found = document.get("jwks_uri")
        try:
            check_url("jwks_uri", found if isinstance(found, str) else "", query=True)
        except RequestError as error:
            raise FetchError(f"its openid-configuration: {error.message}") from error
        return str(found)

    def _unreachable(self) -> AuthorityError:
        wait_s = max(1, math.ceil(self._wait_s()))
        return AuthorityError(
            f"the issuer {self._issuer.issuer} of the token can't be asked for its keys: try again in {wait_s} s",
            where={"retry_after_s": str(wait_s)},
        )
