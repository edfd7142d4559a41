"""Fragments that lie in the store because they are large, such that only the tasks that are told the secret can read them.

A plan may hold the user's credentials, and more people may read the exchange than may see those. Each fragment has a
secret of its own, which travels in the signed events of its tasks (docs/protocol.md, "Fragments in the store"). The
coordinator seals, :mod:`frazil_functions.run` unseals.
"""

from __future__ import annotations

import os
from typing import Final

from frazil_functions.errors import BlockError
from frazil_functions.storage import Store
from frazil_functions.task import TaskRequest

__all__ = ["fragment_of", "seal_fragment"]

_SECRET_BYTES: Final = 32
_NONCE: Final = bytes(12)
"""Always the same, because no secret seals twice."""


def seal_fragment(fragment: bytes) -> tuple[bytes, bytes]:
    """Return a fragment such that only a holder of its secret can read it, and that secret: AES-256 in GCM."""
    # Imported where it is needed: few fragments are large, and a function must start fast.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    secret = os.urandom(_SECRET_BYTES)
    return AESGCM(secret).encrypt(_NONCE, fragment, None), secret


def fragment_of(request: TaskRequest, store: Store) -> bytes:
    """Return the fragment of a task: from its request, or from the store, which is 1 GET. Empty when it has none.

    Raises
    ------
    BlockError
        When the object is gone, or was changed since, or the secret is another's.
    """
    key = request.fragment_key
    if request.fragment or key is None:
        return request.fragment
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    sealed = store.get(key)
    try:
        return AESGCM(request.fragment_secret).decrypt(_NONCE, sealed, None)
    except (InvalidTag, ValueError) as error:
        raise BlockError(
            f"the fragment {key} is not the one that the coordinator wrote: look who else writes there"
        ) from error
