"""The records of a query's journal, and segments: the objects that hold them (docs/journal.md specifies both).

Values and their bytes; nothing is read or written here. Next: :mod:`frazil_coordinator.journal.log` appends them,
:mod:`frazil_coordinator.journal.history` makes sense of them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

import google_crc32c
import msgspec

from frazil_coordinator.bodies import read_body
from frazil_coordinator.schedule.commits import StageLaidOut, TaskCommitted, TaskDivided, TaskLost
from frazil_coordinator.status import QueryState
from frazil_functions.errors import JournalError, WireError
from frazil_functions.ids import QueryId
from frazil_functions.task import BlockRef

__all__ = [
    "Accepted",
    "Ended",
    "Planned",
    "Publishing",
    "Record",
    "TakenOver",
    "decode_segment",
    "encode_segment",
]

_MAGIC: Final = b"FRZJ"
_VERSION: Final = 1
_HEAD: Final = struct.Struct("<4sHxxI")
"""Magic, version, two zeros, CRC-32C of the body."""


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag="accepted"):
    """The query was accepted: always the first record."""

    query: QueryId
    submitted_unix_s: float
    labels: tuple[str, ...]
    settings: dict[str, object]
    """The query's `frazil_coordinator.settings.Settings`, by field."""

    discard_result: bool
    plan: bytes = b""
    """The sealed plan; empty when it is so large that it has an object of its own."""

    idempotency_key: str = ""
    """What the client called the submission, so that it is accepted once; empty when it has no name."""

    plan_digest: str = ""
    """SHA-256 of the plan, when the submission has a name."""

    tenant: str = "default"
    """Whose query it is; that of a coordinator without tenants in journals from before there were any."""

    priority: int = 0


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned"):
    """The query was cut into stages, or, after text files could not be cut, was cut anew; what was done before is void."""

    stages: bytes = b""
    """The sealed stages; empty when they are so large that they have an object of their own."""

    name: str
    """What they are sealed as; the name of that object."""

    sink_folder: str = ""
    """Name of the folder of a sink's staged files; empty without a sink."""

    sink_stamp: str = ""
    """Time of planning in the names of a sink's files."""

    release: str = ""
    """The release of functions that the query runs on; empty where there are none."""


class Publishing(msgspec.Struct, frozen=True, kw_only=True, tag="publishing"):
    """All tasks are done, and what they wrote for the user is about to become visible."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The query reached its end."""

    state: QueryState
    started_unix_s: float | None
    ended_unix_s: float
    error: WireError | None = None
    result_rows: int | None = None
    result_bytes: int | None = None
    blocks: tuple[BlockRef, ...] = ()
    """The result."""

    profile: bytes = b"{}"
    """What it used, as JSON."""


class TakenOver(msgspec.Struct, frozen=True, kw_only=True, tag="taken_over"):
    """Another coordinator goes on with the query; what the one before appends from here on is refused."""

    coordinator: str
    """Random name of the process."""

    unix_s: float


Record: TypeAlias = (
    Accepted | Planned | StageLaidOut | TaskDivided | TaskLost | TaskCommitted | Publishing | Ended | TakenOver
)


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    writer: str
    records: tuple[Record, ...]


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Body)


def encode_segment(writer: str, records: Sequence[Record]) -> bytes:
    """Return the bytes of a segment.

    Parameters
    ----------
    writer
        Random name of the process that writes it: two processes never write the same bytes.
    records
        What it holds, oldest first.
    """
    body = _ENCODER.encode(_Body(writer=writer, records=tuple(records)))
    return _HEAD.pack(_MAGIC, _VERSION, google_crc32c.value(body)) + body


def decode_segment(data: bytes, name: str) -> tuple[Record, ...]:
    """Return the records of a segment.

    Parameters
    ----------
    data
        Its bytes.
    name
        What it is called in an error.

    Raises
    ------
    JournalError
        When it is no segment, of another version, or damaged.
    """
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise JournalError(f"{name} is no segment of a journal")
    _, version, crc32c = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise JournalError(f"{name} is of journal version {version}, and this coordinator reads {_VERSION}: use its version")
    return read_body(data[_HEAD.size :], crc32c, _DECODER, name).records
