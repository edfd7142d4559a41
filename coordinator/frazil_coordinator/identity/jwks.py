"""The keys that an issuer publishes (RFC 7517): which of them may prove a token, of what form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

__all__ = ["PublicKey", "public_keys"]

_LEAST_RSA_BITS: Final = 2048
"""NIST SP 800-131A; RFC 7518, 3.3."""

_CURVES: Final = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA",), "Ed448": ("EdDSA",)}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_SECRET: Final = frozenset({"d", "k", "p", "q"})
"""Members that only who signs may know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key, and what may be signed with it."""

    id: str | None
    algorithms: tuple[str, ...]
    members: Mapping[str, object]

    def proving(self, algorithm: str) -> jwt.PyJWK:
        """Return the key in the library's form, for one of its algorithms only."""
        return jwt.PyJWK(dict(self.members), algorithm=algorithm)


def public_keys(document: Mapping[str, object]) -> tuple[PublicKey, ...] | None:
    """Return the keys of a document that may prove a token; None when it is no set of keys.

    Notes
    -----
    Others are left out, as RFC 7517, 5 wants: of unknown types, for encryption, damaged, and those that are secrets, with
    which whoever reads them could sign: nothing is proven by a key that the issuer shows to everybody.
    """
    keys = document.get("keys")
    if not isinstance(keys, list):
        return None
    return tuple(key for one in keys if isinstance(one, dict) and (key := _public_key(one)) is not None)


def _public_key(members: dict[str, object]) -> PublicKey | None:
    algorithms = _algorithms(members)
    key_id = members.get("kid")
    if not algorithms or _SECRET & members.keys() or not isinstance(key_id, str | None):
        return None
    made = PublicKey(id=key_id, algorithms=algorithms, members=members)
    try:
        key = cast("object", made.proving(algorithms[0]).key)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return None
    return made


def _algorithms(members: Mapping[str, object]) -> tuple[str, ...]:
    """Return what a key may be used for: by its type and curve, and what it says itself."""
    if members.get("use", "sig") != "sig":
        return ()
    operations = members.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return ()
    curve = members.get("crv")
    match members.get("kty"):
        case "RSA":
            fitting: tuple[str, ...] = _RSA
        case "EC" | "OKP":
            fitting = _CURVES.get(curve, ()) if isinstance(curve, str) else ()
        case _:
            fitting = ()
    return tuple(one for one in fitting if members.get("alg", one) == one)
