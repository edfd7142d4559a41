"""Records and checkpoints of triggers as bytes (docs/triggers.md has the format). Pure."""

from __future__ import annotations

import struct
from typing import Final, TypeVar

import google_crc32c
import msgspec

from frazil_coordinator.bodies import read_body
from frazil_coordinator.events.state import Checkpoint, Record
from frazil_functions.errors import JournalError

__all__ = ["VERSION", "decode_checkpoint", "decode_record", "encode_checkpoint", "encode_record"]

VERSION: Final = 1

_HEAD: Final = struct.Struct("<4sHHI")
"""Magic, version, kind, CRC-32C of the body."""

_MAGIC: Final = b"FRZT"
_RECORD: Final = 1
_CHECKPOINT: Final = 2

_T = TypeVar("_T")


class _Commit(msgspec.Struct, frozen=True, kw_only=True):
    writer: str
    record: Record


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    writer: str
    checkpoint: Checkpoint


_ENCODER: Final = msgspec.msgpack.Encoder()
_COMMITS: Final = msgspec.msgpack.Decoder(_Commit)
_POINTS: Final = msgspec.msgpack.Decoder(_Point)


def encode_record(record: Record, writer: str) -> bytes:
    """Return the bytes of a commit; `writer` is a random name of the process, so that no two processes write the same."""
    return _framed(_RECORD, _ENCODER.encode(_Commit(writer=writer, record=record)))


def encode_checkpoint(checkpoint: Checkpoint, writer: str) -> bytes:
    """Return the bytes of a checkpoint."""
    return _framed(_CHECKPOINT, _ENCODER.encode(_Point(writer=writer, checkpoint=checkpoint)))


def decode_record(data: bytes, name: str) -> Record:
    """Return what a commit says.

    Raises
    ------
    JournalError
        When it is no commit of a version that is known here, or damaged.
    """
    return _decoded(data, name, _RECORD, _COMMITS).record


def decode_checkpoint(data: bytes, name: str) -> Checkpoint:
    """Return what a checkpoint says. Raises as :func:`decode_record`."""
    return _decoded(data, name, _CHECKPOINT, _POINTS).checkpoint


def _framed(kind: int, body: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, VERSION, kind, google_crc32c.value(body)) + body


def _decoded(data: bytes, name: str, kind: int, decoder: msgspec.msgpack.Decoder[_T]) -> _T:
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise JournalError(f"{name} is no object of a trigger")
    _, version, found, crc32c = _HEAD.unpack_from(data)
    if version != VERSION or found != kind:
        raise JournalError(
            f"{name} is of version {version}, kind {found}, and this coordinator reads version {VERSION}, kind {kind}: use "
            "the release of Frazil that wrote it"
        )
    return read_body(data[_HEAD.size :], crc32c, decoder, name)
