"""Fragments that lie in the store because they are large, such that only the tasks that are told the secret can read them.

A plan may hold the user's credentials, and more people may read the exchange than may see those. Each fragment has a
secret of its own, which travels in the signed events of its tasks (docs/protocol.md, "Fragments in the store"). The
coordinator seals, :mod:`frazil_functions.run` unseals.
"""

from __future__ import annotations

import os
from typing import Final

from frazil_functions.errors import BlockError

__all__ = ["seal_fragment", "unseal_fragment"]

_SECRET_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""Always the same, because no secret seals twice."""


def seal_fragment(fragment: bytes) -> tuple[bytes, bytes]:
    """Return a fragment such that only a holder of its secret can read it, and that secret: AES-256 in GCM."""
    # Imported where it is needed: few fragments are large, and a function must start fast.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    secret = os.urandom(_SECRET_BYTES)
    return AESGCM(secret).encrypt(_NONCE, fragment, None), secret


def unseal_fragment(sealed: bytes, secret: bytes, *, key: str) -> bytes:
    """Return the fragment that was sealed.

    Parameters
    ----------
    sealed, secret
        What :func:`seal_fragment` returned.
    key
        The object's key, for the error.

    Raises
    ------
    BlockError
        When the object was changed since, or the secret is another's.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(secret).decrypt(_NONCE, sealed, None)
    except (InvalidTag, ValueError) as error:
        raise BlockError(
            f"the fragment {key} is not the one that the coordinator wrote: look who else writes there"
        ) from error
