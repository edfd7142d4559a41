"""Whose a token is by the word of a Kubernetes cluster: a ``TokenReview`` (authentication.k8s.io/v1).

One request for a token that was not looked at within `cache_s`, however many ask at once; none for one that was. What is
kept is found by the token's hash, and is bounded: answers about bad tokens push out none about good ones. While the API
server fails, it is asked about once a second, and nobody is let in whom it has not vouched for.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from frazil_coordinator.identity.claims import Identity
from frazil_coordinator.identity.fetching import FetchError, fetch_json
from frazil_coordinator.identity.unproven import Unproven
from frazil_coordinator.refusals import AuthorityError, ForbiddenError, InvalidTokenError
from frazil_coordinator.tenancy import Kubernetes
from frazil_coordinator.tenancy.model import digest_of

__all__ = ["Reviews"]

_LOGGER = logging.getLogger(__name__)

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_MOST_KEPT: Final = 4096
_AT_ONCE: Final = 8
"""Questions on their way; the API server serves others too."""

_PAUSE_S: Final = 1.0
"""How long nothing is asked after a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _User:
    """Whom the cluster takes a token for."""

    name: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What the cluster said; None: the token is nobody's."""

    user: _User | None
    until_s: float


class Reviews:
    """Asks a cluster, and keeps for a while what it said.

    Parameters
    ----------
    kubernetes
        Which one, and whom its users stand for.
    clock, monotonic
        See :class:`~frazil_coordinator.identity.identities.Identities`.
    """

    def __init__(self, kubernetes: Kubernetes, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._now = monotonic
        self._good: OrderedDict[str, _Kept] = OrderedDict()
        self._bad: OrderedDict[str, _Kept] = OrderedDict()
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._failed_s = -math.inf

    def takes(self, unproven: Unproven) -> bool:
        """Return whether the cluster is asked about such a token."""
        return self._kubernetes.issuer in (None, unproven.claims.get("iss"))

    async def identity_of(self, token: str, unproven: Unproven) -> Identity:
        """Return whose a token is.

        Raises
        ------
        InvalidTokenError, ForbiddenError, AuthorityError
            See :meth:`~frazil_coordinator.identity.identities.Identities.identity_of`.
        """
        user = await self._user_of(token, unproven)
        if user is None:
            raise InvalidTokenError(
                "the token is not good by the word of the Kubernetes cluster: it is not one of its own, has expired, was "
                f"taken back, or is for another audience than {', '.join(self._kubernetes.audiences)}"
            )
        for binding in self._kubernetes.bindings:
            if binding.is_of(user.name, user.groups):
                return Identity(tenant=binding.tenant, role=binding.role)
        raise ForbiddenError("the token is good, but its service account and groups give a right to nothing here")

    async def _user_of(self, token: str, unproven: Unproven) -> _User | None:
        digest = digest_of(token)
        if (kept := self._kept(digest)) is not None:
            return kept.user
        lock = self._asking.get(digest)
        if lock is None:
            lock = self._asking[digest] = asyncio.Lock()
        async with lock:
            if (kept := self._kept(digest)) is not None:  # of who was before
                return kept.user
            user = await self._asked(token)
            self._keep(digest, user, unproven)
            return user

    def _kept(self, digest: str) -> _Kept | None:
        for answers in (self._good, self._bad):
            if (kept := answers.get(digest)) is not None:
                if self._now() < kept.until_s:
                    answers.move_to_end(digest)
                    return kept
                del answers[digest]
        return None

    def _keep(self, digest: str, user: _User | None, unproven: Unproven) -> None:
        keep_s, expires = self._kubernetes.cache_s, unproven.claims.get("exp")
        if user is not None and isinstance(expires, int | float):  # the cluster has vouched for the claim too
            keep_s = min(keep_s, expires - self._clock())
        if keep_s > 0:
            answers = self._bad if user is None else self._good
            answers[digest] = _Kept(user=user, until_s=self._now() + keep_s)
            if len(answers) > _MOST_KEPT:
                answers.popitem(last=False)

    async def _asked(self, token: str) -> _User | None:
        if self._now() < self._failed_s + _PAUSE_S:
            raise self._unreachable()
        try:
            async with asyncio.timeout(self._kubernetes.timeout_s):
                await self._at_once.acquire()
        except TimeoutError:
            raise self._unreachable() from None
        try:
            return _user(await self._reviewed(token), self._kubernetes.audiences)
        except FetchError as error:
            self._failed_s = self._now()
            _LOGGER.warning("no review of a token", extra={"api_url": self._kubernetes.api_url, "reason": str(error)})
            raise self._unreachable() from None
        finally:
            self._at_once.release()

    async def _reviewed(self, token: str) -> Mapping[str, object]:
        kubernetes = self._kubernetes
        try:
            own = (await asyncio.to_thread(Path(kubernetes.token_file).read_text, encoding="ascii")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise FetchError(f"the coordinator's own token can't be read: {type(error).__name__}") from error
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": kubernetes.audiences},
        }
        return await fetch_json(
            kubernetes.api_url.rstrip("/") + _PATH,
            timeout_s=kubernetes.timeout_s,
            ca_file=kubernetes.ca_file,
            headers={"Authorization": f"Bearer {own}", "Content-Type": "application/json", "Accept": "application/json"},
            body=msgspec.json.encode(review),
            through_proxy=False,  # a token is for nobody between
        )

    def _unreachable(self) -> AuthorityError:
        return AuthorityError(
            "the Kubernetes cluster can't be asked whose the token is: try again in a moment", where={"retry_after_s": "1"}
        )


class _UserInfo(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _UserInfo = _UserInfo()
    audiences: tuple[str, ...] = ()


class _Review(msgspec.Struct, frozen=True):
    kind: str
    status: _Status


def _user(document: Mapping[str, object], audiences: tuple[str, ...]) -> _User | None:
    """Return whom a review is about; None when the token is nobody's, or for somebody else.

    Notes
    -----
    A server that knows no audiences would vouch for a token of any: it says so by naming none.
    """
    try:
        review = msgspec.convert(document, type=_Review)
    except msgspec.ValidationError as error:
        raise FetchError("answered what is no TokenReview") from error
    if review.kind != "TokenReview":
        raise FetchError("answered what is no TokenReview")
    status = review.status
    if not status.authenticated or not status.user.username or not {*audiences} & {*status.audiences}:
        return None
    return _User(name=status.user.username, groups=status.user.groups)
