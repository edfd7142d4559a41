"""What the coordinator keeps as MessagePack behind a checksum: segments of journals, answers for reuse, logs of triggers.

Their heads differ, and belong to who writes them; the body is read alike.
"""

from __future__ import annotations

from typing import TypeVar

import google_crc32c
import msgspec

from frazil_functions.errors import JournalError

__all__ = ["read_body"]

_T = TypeVar("_T")


def read_body(body: bytes, crc32c: int, decoder: msgspec.msgpack.Decoder[_T], name: str) -> _T:
    """Return what a body holds.

    Parameters
    ----------
    body, crc32c
        MessagePack, and the CRC-32C (Castagnoli) of it that the head tells.
    decoder
        Of what it must be.
    name
        What it is called in an error.

    Raises
    ------
    JournalError
        When it is damaged, or something else.
    """
    if google_crc32c.value(body) != crc32c:
        raise JournalError(f"{name} is damaged: its checksum is wrong")
    try:
        return decoder.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise JournalError(f"{name} can't be read: {error}") from error
