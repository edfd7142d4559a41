"""The forms in which answers and results are kept (docs/reuse.md specifies both): values and their bytes.

Nothing is read or written here: :mod:`frazil_coordinator.reuse.kept` does.
"""

from __future__ import annotations

import struct
from typing import Final, TypeVar

import google_crc32c
import msgspec

from frazil_coordinator.bodies import read_body
from frazil_functions.errors import JournalError
from frazil_functions.ids import QueryId
from frazil_functions.task import BlockRef, Descriptor

__all__ = ["Kept", "KeptResult", "decode_kept", "decode_result", "encode_kept", "encode_result"]

_ANSWER: Final = b"FRZK"
_RESULT: Final = b"FRZR"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHxxI")
"""Magic, version, two zeros, CRC-32C of the body."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What was answered."""

    digest: str
    """Of the task."""

    work: str
    """Of what is done for it."""

    query: QueryId
    """Whose task it was."""

    kept_unix_s: float
    """When the answer came."""

    descriptor: Descriptor


class KeptResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a query that succeeded."""

    digest: str
    """Of the query."""

    query: QueryId
    ended_unix_s: float
    blocks: tuple[BlockRef, ...]
    """Each has its bytes, or lies in an object that stays."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_KEPT: Final = msgspec.msgpack.Decoder(Kept)
_KEPT_RESULT: Final = msgspec.msgpack.Decoder(KeptResult)
_Form = TypeVar("_Form")


def encode_kept(kept: Kept) -> bytes:
    """Return the bytes of an answer."""
    return _encode(_ANSWER, kept)


def encode_result(result: KeptResult) -> bytes:
    """Return the bytes of a result."""
    return _encode(_RESULT, result)


def decode_kept(data: bytes, name: str) -> Kept:
    """Return an answer that was kept.

    Raises
    ------
    JournalError
        When it is none, of another version, or damaged; `name` is what it is called then.
    """
    return _decode(_ANSWER, _KEPT, data, name)


def decode_result(data: bytes, name: str) -> KeptResult:
    """Return a result that was kept. Raises as :func:`decode_kept`."""
    return _decode(_RESULT, _KEPT_RESULT, data, name)


def _encode(magic: bytes, value: object) -> bytes:
    body = _ENCODER.encode(value)
    return _HEAD.pack(magic, _VERSION, google_crc32c.value(body)) + body


def _decode(magic: bytes, decoder: msgspec.msgpack.Decoder[_Form], data: bytes, name: str) -> _Form:
    if len(data) < _HEAD.size or not data.startswith(magic):
        raise JournalError(f"{name} is nothing that was kept for reuse")
    _, version, crc32c = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise JournalError(f"{name} is of version {version}, and this coordinator reads {_VERSION}")
    return read_body(data[_HEAD.size :], crc32c, decoder, name)
