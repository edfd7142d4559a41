"""An issuer of signed tokens: real keys, real signatures, and the document that publishes them on a real server."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from support.answering import Answer, Server

__all__ = ["AUDIENCE", "DISCOVERY", "JWKS", "Clock", "Issuing", "Key", "key", "unsigned"]

AUDIENCE = "frazil"
JWKS = "/keys"
DISCOVERY = "/.well-known/openid-configuration"


@dataclass
class Clock:
    """Both clocks of a coordinator; it goes when the test says so."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True)
class Key:
    """A key that signs, by one algorithm."""

    id: str | None
    algorithm: str
    private: Any

    def published(self, **members: object) -> dict[str, object]:
        """Return the public half as an issuer shows it."""
        makers: dict[str, Any] = {"ES": ECAlgorithm, "Ed": OKPAlgorithm}
        found: dict[str, object] = makers.get(self.algorithm[:2], RSAAlgorithm).to_jwk(
            self.private.public_key(), as_dict=True
        )
        found |= {"use": "sig", "alg": self.algorithm} | ({} if self.id is None else {"kid": self.id})
        # What to_jwk adds of its own is for who verifies.
        found.pop("key_ops", None)
        return found | members


@functools.cache
def key(name: str | None, algorithm: str = "RS256", bits: int = 2048) -> Key:
    """Return a key, the same one for the same arguments."""
    curves: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    if algorithm == "EdDSA":
        private: Any = ed25519.Ed25519PrivateKey.generate()
    elif algorithm in curves:
        private = ec.generate_private_key(curves[algorithm]())
    else:
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return Key(name, algorithm, private)


@dataclass
class Issuing:
    """An issuer."""

    server: Server
    clock: Clock
    keys: list[dict[str, object]] = field(default_factory=list)
    """What it publishes."""

    @property
    def issuer(self) -> str:
        return self.server.url

    @property
    def fetched(self) -> int:
        """How often its keys were."""
        return self.server.count(JWKS)

    def publish(self, *keys: Key | dict[str, object]) -> None:
        """Show these keys and no others."""
        self.keys = [one.published() if isinstance(one, Key) else one for one in keys]
        self.server.answers[JWKS] = Answer(body={"keys": self.keys})
        self.server.answers[DISCOVERY] = Answer(body={"issuer": self.issuer, "jwks_uri": self.server.url + JWKS})

    def fail(self, answer: Answer | None = None) -> None:
        """Answer nothing of use any more."""
        self.server.answers[JWKS] = answer or Answer(status=500)

    def claims(self, **claims: object) -> dict[str, object]:
        """Return good claims, changed by `claims`; None takes one away."""
        now = int(self.clock())
        good = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "team": "blue"}
        return {name: value for name, value in (good | claims).items() if value is not None}

    def token(self, by: Key, header: Mapping[str, object] | None = None, **claims: object) -> str:
        """Return a token that `by` signs."""
        headers = {**({} if by.id is None else {"kid": by.id}), **(header or {})}
        return jwt.encode(self.claims(**claims), by.private, algorithm=by.algorithm, headers=headers)

    def signed(self, by: Key, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Return a token of any form, also one that a library would not make, that is rightly signed by RS256."""
        text = unsigned(header, claims)
        signature = by.private.sign(text.encode(), PKCS1v15(), SHA256())
        return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def unsigned(header: Mapping[str, object], claims: Mapping[str, object]) -> str:
    """Return the part of a token that is signed."""
    return ".".join(base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in (header, claims))
