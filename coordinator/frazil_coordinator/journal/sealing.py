"""Sealing what the journal stores: plans may hold credentials of the user's, which nobody who reads the store may see.

AES-256 in GCM, with a key derived from the operator's secret (docs/journal.md, "Sealed object"). Whoever seals says what for
(`context`), so that one object can't be put in the place of another. This module does not know what it seals and stores
nothing: that is for its callers.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from frazil_functions.errors import JournalError

__all__ = ["SEAL_MAGIC", "SEAL_VERSION", "Sealer"]

SEAL_MAGIC: Final = b"FRZSEAL\0"
SEAL_VERSION: Final = 1

_START: Final = struct.Struct("<8sH")
_HEADER: Final = struct.Struct("<8sH8s12s")
"""Magic, version, id of the key, nonce."""

_INFO: Final = b"frazil journal v1"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_LEAST_SECRET_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    id: bytes
    """The first bytes of the key's SHA-256: it tells which key is meant, and nothing of it."""

    key: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: str) -> _Key:
        data = secret.encode()
        if len(data) < _LEAST_SECRET_BYTES:
            raise JournalError(
                f"a key of the journal has {len(data)} bytes, and needs {_LEAST_SECRET_BYTES} at least: take a random one, "
                "such as `openssl rand -base64 32` gives"
            )
        # The secret is a random one, so it needs no salt (RFC 5869, 3.1), and coordinators that share it need no more.
        key = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=_INFO).derive(data)
        return cls(id=hashlib.sha256(key).digest()[:_ID_BYTES], key=key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Seals with its first key, and unseals what any of its keys has sealed."""

    keys: tuple[_Key, ...] = field(repr=False)

    @classmethod
    def of(cls, keys: Sequence[str]) -> Sealer:
        """Return the sealer of some secrets.

        Parameters
        ----------
        keys
            Secrets of 16 bytes at least. To rotate them, put the new one first, and take the old one away when no query that
            began under it is left.

        Raises
        ------
        JournalError
            When there is none, or one is too short.
        """
        if isinstance(keys, str) or not keys:
            raise JournalError("the journal needs a list of keys, one at least: without a key it can't seal plans")
        return cls(keys=tuple(_Key.of(secret) for secret in keys))

    def seal(self, data: bytes, *, context: str) -> bytes:
        """Return `data` such that only a holder of the key can read it.

        Parameters
        ----------
        data
            What is sealed.
        context
            What it is, such as the query and the kind of the object; to be said again when it is unsealed.
        """
        own, nonce = self.keys[0], os.urandom(_NONCE_BYTES)
        header = _HEADER.pack(SEAL_MAGIC, SEAL_VERSION, own.id, nonce)
        return header + AESGCM(own.key).encrypt(nonce, data, _associated(header, context))

    def unseal(self, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed.

        Raises
        ------
        JournalError
            When it is no sealed object, or of another version; when none of the keys has sealed it; when it was sealed for
            another context; when it was changed since.
        """
        if len(sealed) < _START.size or not sealed.startswith(SEAL_MAGIC):
            raise JournalError(f"not a sealed object: {context} begins with other bytes")
        version = _START.unpack_from(sealed)[1]
        if version != SEAL_VERSION:
            raise JournalError(
                f"{context} is a sealed object of version {version}, and this coordinator reads version {SEAL_VERSION}: let "
                "a coordinator of the version that wrote it finish the query, or submit the query again"
            )
        if len(sealed) < _HEADER.size + _TAG_BYTES:
            raise JournalError(f"a damaged sealed object: {context} is cut off")
        _, _, key_id, nonce = _HEADER.unpack_from(sealed)
        own = next((one for one in self.keys if one.id == key_id), None)
        if own is None:
            known = ", ".join(one.id.hex() for one in self.keys)
            raise JournalError(
                f"{context} was sealed with the key {key_id.hex()}, and this coordinator has {known}: add the secret of "
                "that key behind the present ones, or submit the query again"
            )
        header = sealed[: _HEADER.size]
        try:
            return AESGCM(own.key).decrypt(nonce, sealed[_HEADER.size :], _associated(header, context))
        except InvalidTag as error:
            raise JournalError(
                f"{context} was changed since it was sealed, or sealed as something else: look who writes to the store, and "
                "submit the query again"
            ) from error


def _associated(header: bytes, context: str) -> bytes:
    """Return what is authenticated besides the data; the header has a fixed length, so no two contexts give the same."""
    return header + context.encode()
