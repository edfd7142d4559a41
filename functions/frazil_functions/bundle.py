"""A bundle: one task with everything it was sent and all that it read of the exchange, to be run again somewhere else.

The format is specified in docs/replay.md; files of old versions are in ``tests/golden/replay``. A bundle holds what its
query's plan held, credentials too: who makes one decides who gets it. It is made by a coordinator, and run by whoever
debugs a task; a function never sees one. Next: :mod:`frazil_functions.run` runs its request.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from frazil_functions.errors import BlockError, RequestError, WireError
from frazil_functions.exchange.reader import fetch_blocks
from frazil_functions.sealed import fragment_of
from frazil_functions.storage_model import Store
from frazil_functions.task import BlockRef, ExchangeInput, TaskInput, TaskRequest, decode_request, encode_request

__all__ = [
    "BUNDLE_MEDIA_TYPE",
    "BUNDLE_VERSION",
    "Bundle",
    "decode_bundle",
    "encode_bundle",
    "missing_bytes",
    "with_blocks",
    "with_fragment",
]

BUNDLE_MEDIA_TYPE: Final = "application/vnd.frazil.task-bundle"
BUNDLE_VERSION: Final = 1
"""Version of the format that is written; it is the only one that is read."""

_MAGIC: Final = b"FRZTASK\0"
_HEADER: Final = struct.Struct("<8sH")


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A task, and what became of it."""

    request: TaskRequest
    """What the attempt was sent, with its fragment. The blocks that it reads hold their bytes (`BlockRef.data`), or those
    that lie in the store of the exchange all do not."""

    left_out_bytes: int = 0
    """Bytes of blocks that are not here; 0 when all are."""

    left_out: str = ""
    """Why they are not, and what to do about it."""

    error: WireError | None = None
    """What the query failed with, when this task is why."""

    frazil_version: str
    """Of the coordinator that made it."""

    made_unix_s: float
    """When, in seconds since 1970."""

    @property
    def id(self) -> str:
        """``<query>/<stage>/<task>/<attempt>``."""
        return self.request.id


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    """What follows the header; the request is as the function was sent it."""

    request: bytes
    left_out_bytes: int = 0
    left_out: str = ""
    error: WireError | None = None
    frazil_version: str
    made_unix_s: float


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Wire)


def encode_bundle(bundle: Bundle) -> bytes:
    """Return `bundle` in the format of docs/replay.md."""
    wire = _Wire(
        request=encode_request(bundle.request),
        left_out_bytes=bundle.left_out_bytes,
        left_out=bundle.left_out,
        error=bundle.error,
        frazil_version=bundle.frazil_version,
        made_unix_s=bundle.made_unix_s,
    )
    return _HEADER.pack(_MAGIC, BUNDLE_VERSION) + _ENCODER.encode(wire)


def decode_bundle(data: bytes, *, source: str = "what was given") -> Bundle:
    """Read a bundle.

    Parameters
    ----------
    data
        All of it.
    source
        What it came from, for errors.

    Raises
    ------
    RequestError
        When it is no bundle, of another version, or damaged.
    """
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        raise RequestError(f"{source} is not a bundle of a task: `frazil replay QUERY/STAGE/TASK --save FOLDER` writes one")
    version = _HEADER.unpack_from(data)[1]
    if version != BUNDLE_VERSION:
        raise RequestError(
            f"{source} is a bundle of version {version}, and this frazil reads version {BUNDLE_VERSION}: "
            "replay it with the frazil that its coordinator runs"
        )
    try:
        wire = _DECODER.decode(memoryview(data)[_HEADER.size :])
        request = decode_request(wire.request)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise RequestError(f"{source} is a damaged bundle: {error}; fetch it again") from error
    return Bundle(
        request=request,
        left_out_bytes=wire.left_out_bytes,
        left_out=wire.left_out,
        error=wire.error,
        frazil_version=wire.frazil_version,
        made_unix_s=wire.made_unix_s,
    )


def with_fragment(request: TaskRequest, store: Store) -> TaskRequest:
    """Return `request` with its fragment, where that lies in the store: 1 GET then.

    Raises
    ------
    BlockError
        When it is no longer there.
    """
    fragment = fragment_of(request, store)
    return msgspec.structs.replace(request, fragment=fragment, fragment_key=None, fragment_secret=b"")


def missing_bytes(request: TaskRequest) -> int:
    """Return the bytes of the blocks that `request` reads from the store of the exchange, each counted once."""
    found = {(block.key, block.offset): block.length for block in _blocks(request) if block.data is None}
    return sum(found.values())


def with_blocks(request: TaskRequest, store: Store, *, cancelled: Callable[[], bool] | None = None) -> TaskRequest:
    """Return `request` with the bytes of all blocks that it reads; requests to the store are those of the task itself.

    Parameters
    ----------
    request
        Blocks that two of its inputs name are fetched for each.
    store
        Where the blocks lie.
    cancelled
        Asked before each block and while waiting for one.

    Raises
    ------
    BlockError
        When a block is no longer there, or cut off.
    StorageError
        When the store fails.
    CancelledQueryError
        When `cancelled` says so.
    """
    inputs = tuple(_held(given, store, cancelled) for given in request.inputs)
    return msgspec.structs.replace(request, inputs=inputs)


def _held(given: TaskInput, store: Store, cancelled: Callable[[], bool] | None) -> TaskInput:
    if not isinstance(given, ExchangeInput):
        return given
    blocks = tuple(_with_data(*found) for found in fetch_blocks(store, given.blocks, cancelled=cancelled))
    return msgspec.structs.replace(given, blocks=blocks)


def _with_data(block: BlockRef, data: bytes) -> BlockRef:
    if len(data) != block.length:
        raise BlockError(f"{block.key} at {block.offset}: {len(data)} bytes where {block.length} were written")
    return msgspec.structs.replace(block, data=bytes(data))


def _blocks(request: TaskRequest) -> Iterator[BlockRef]:
    for given in request.inputs:
        if isinstance(given, ExchangeInput):
            yield from given.blocks
