"""The values of the task protocol: what a task is given and what it reports (docs/protocol.md).

These are wire types, so they are frozen `msgspec.Struct` (frozen, slotted, keyword-only, with tagged unions) rather than
dataclasses: the codec is then the type. Nothing a task reads may be named by anything but its :class:`TaskRequest`.
Next on the main path: :mod:`frazil_functions.app` receives a request, :mod:`frazil_functions.run` runs it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from frazil_functions.errors import ProtocolError, WireError
from frazil_functions.ids import QueryId, StageId, TaskIndex, attempt_id

__all__ = [
    "INPUT_SCHEME",
    "ROW_TAG_COLUMNS",
    "BlockInfo",
    "BlockRef",
    "Codec",
    "CodecChoice",
    "Descriptor",
    "ExchangeInput",
    "ExchangeKind",
    "Failed",
    "HashShare",
    "Heartbeat",
    "KeyRange",
    "KeySummary",
    "Output",
    "ScanInput",
    "SinkFile",
    "SinkOutput",
    "SortKey",
    "Split",
    "Started",
    "Succeeded",
    "TaskEvent",
    "TaskInput",
    "TaskLimits",
    "TaskRequest",
    "TaskStats",
    "decode_event",
    "decode_request",
    "encode_event",
    "encode_request",
    "input_path",
]

INPUT_SCHEME: Final = "frazil-input:///"
"""Path prefix of the placeholder scans in a fragment: ``frazil-input:///<n>`` stands for ``TaskRequest.inputs[n]``."""

ROW_TAG_COLUMNS: Final = ("__frazil_map", "__frazil_row")
"""Columns (UInt32 map index, UInt64 row number) that a writer with ``Output.row_tag`` appends to what it writes."""

ExchangeKind: TypeAlias = Literal["hash", "range", "broadcast", "single", "combined"]
Codec: TypeAlias = Literal[
    "ipc", "ipc_lz4", "ipc_stream", "ipc_stream_zstd", "ipc_zstd", "parquet_snappy", "parquet_zstd",
]  # fmt: skip
CodecChoice: TypeAlias = Literal["auto", Codec]


def input_path(number: int) -> str:
    """Return the path of the placeholder scan that stands for input `number`."""
    return f"{INPUT_SCHEME}{number}"


class Split(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The share of one source file that a task scans: a range of its rows."""

    path: str
    """Path or URL of the file, as polars takes it."""

    offset: int
    """First row."""

    rows: int
    """Number of rows; 0 for a whole file whose rows nobody has counted."""

    whole: bool = False
    """Whether the range is the whole file, so that no slice needs to be set."""

    size: int | None = None
    """Size of the file in bytes when it was planned; checked before reading."""

    etag: str | None = None
    """Etag of the file when it was planned; checked before reading."""

    rows_before: int = 0
    """Rows of the scan's files before this one: a row index goes on from there."""

    hive_start: int = 0
    """Where in `path` the names of hive partitions begin, for a scan that yields them."""

    start: int = 0
    """First byte of a range of lines of a text file."""

    length: int | None = None
    """Bytes of a range of lines; None for a split that is not one. Then `offset` and `rows` are not read."""

    header: bytes | None = None
    """The line of column names to put before a range of lines that does not start its file; it has no other lines to
    skip. None for a range that starts its file, and for files without columns' names (NDJSON)."""


class ScanInput(msgspec.Struct, frozen=True, kw_only=True, tag="scan"):
    """Splits to put in the place of a placeholder scan, in this order."""

    splits: tuple[Split, ...]
    """No split means an empty table of the placeholder's schema."""

    scan_type: bytes | None = None
    """MessagePack of the ``scan_type`` of the user's scan (its format and options), where the placeholder is only a stand-in
    for it: polars opens the file of an IPC scan when it resolves a plan. None: the placeholder's own."""

    predicate: bytes | None = None
    """Serialised `pl.Expr` on the placeholder's columns: rows for which it is not true have no part in the answer."""


class KeyRange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A half-open interval ``low <= key < high`` of row-encoded sort keys; None is unbounded."""

    low: bytes | None
    high: bytes | None


class HashShare(msgspec.Struct, frozen=True, kw_only=True):
    """One of `count` parts of a hash partition: rows whose keys are equal are in one part."""

    hash_keys: tuple[bytes, ...]
    """Serialised `pl.Expr`, those of the exchange (`Output.hash_keys`)."""

    partitions: int
    """Partitions of the exchange."""

    index: int
    count: int


class SortKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a range exchange."""

    column: str
    """Name of a column of the exchange."""

    descending: bool
    nulls_last: bool


class BlockRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a reader finds one block."""

    key: str
    """Object key in the exchange store (relative to the store's root)."""

    offset: int
    """First byte of the block in the object."""

    length: int
    """Bytes of the block."""

    rows: int
    crc32c: int
    """CRC-32C (Castagnoli) of the encoded bytes."""

    codec: Codec
    map_index: int
    """Task of the producing stage that wrote the block."""

    data: bytes | None = None
    """The encoded bytes themselves when the block travelled inline; then `key`, `offset` are not read."""


class ExchangeInput(msgspec.Struct, frozen=True, kw_only=True, tag="exchange"):
    """Blocks to stream in the place of a placeholder scan, in this order (map order: rows keep their order)."""

    blocks: tuple[BlockRef, ...]
    key_range: KeyRange | None = None
    """Only rows whose row-encoded `sort_keys` lie in the range are read (range exchange: blocks may overlap it)."""

    sort_keys: tuple[SortKey, ...] = ()
    hash_share: HashShare | None = None
    """Only these rows of the blocks are read (a partition that was too large for one task)."""

    predicate: bytes | None = None
    """As `ScanInput.predicate`."""


TaskInput: TypeAlias = ScanInput | ExchangeInput


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """How a task writes its output."""

    kind: ExchangeKind
    """``hash``: partition by hash of `hash_keys`. ``range``: the fragment's output is already sorted by `sort_keys`; it is
    cut into blocks of about equal rows, each with the row-encoded key of its first row. ``broadcast`` and ``single``:
    one partition, 0. ``combined``: nothing is computed, and there is no fragment; the blocks of the only input are copied as
    they are, in their order, into one object, and block `n` is partition `n` of it."""

    partitions: int = 1
    """Number of hash partitions; for ``range``, the number of blocks to aim at."""

    hash_keys: tuple[bytes, ...] = ()
    """Serialised `pl.Expr`, evaluated on the fragment's output; their values decide the partition and are not written."""

    sort_keys: tuple[SortKey, ...] = ()
    row_tag: bool = False
    """Append :data:`ROW_TAG_COLUMNS`."""

    codec: CodecChoice = "auto"
    prefix: str = ""
    """Key prefix of the object: ``<prefix>/<2 hex>/<query>/<stage>/<task>``; the writer adds ``/<attempt>-<uuid>``."""

    inline_limit_bytes: int = 256 * 1024
    """Output of at most so many encoded bytes travels in the descriptor, and no object is written."""

    key_columns: tuple[str, ...] = ()
    """Columns whose values the descriptor shall tell of (`Descriptor.keys`)."""

    key_values: int = 0
    """Different values of a column that it lists at most; of more it tells the least and the greatest."""

    final: bool = False
    """Whether it is the query's result, which no other task reads: then columns may have other types than the fragment
    says, as polars lets them."""


class SinkOutput(msgspec.Struct, frozen=True, kw_only=True):
    """Files for the user that a task writes instead of exchange blocks (docs/sinks.md)."""

    node: bytes
    """The plan's sink node as polars wrote it, in MessagePack: format, options, keys, credentials."""

    folder: str
    """Path or URL of the query's folder for staged files; an execution writes into a folder of its own below it."""

    name: str = ""
    """Name of the one file. Polars names the files of a partitioned sink itself: there it is the name of a file that holds
    nothing but the schema, written when there are no rows; empty when then no file is wanted."""


class SinkFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a task wrote."""

    path: str
    """Relative to :attr:`SinkOutput.folder`."""

    rows: int
    bytes: int


class TaskLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that the function enforces."""

    memory_bytes: int | None = None
    """Resident memory of the process above which the attempt fails; None leaves the process's own limit."""

    heartbeat_s: float = 5.0
    """Seconds between heartbeats."""

    expected_bytes: int | None = None
    """Memory that the coordinator expects the task to need, by which a platform with functions of several sizes chooses;
    the function does not look at it."""


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt of one task: the body of a ``dev.frazil.task.v1`` event."""

    query: QueryId
    stage: StageId
    task: TaskIndex
    attempt: int
    fragment: bytes
    """Serialised plan (``LazyFrame.serialize``) whose placeholder scans stand for `inputs`; empty if `fragment_key`."""

    inputs: tuple[TaskInput, ...]
    output: Output
    sink: SinkOutput | None = None
    """When given, the rows are written there, and `output` is not looked at."""

    limits: TaskLimits = TaskLimits()
    deadline_unix_s: float | None = None
    """Absolute time after which nobody wants the answer."""

    fragment_key: str | None = None
    """Object key of the fragment when it is too large to travel inline (> 64 KiB)."""

    fragment_secret: bytes = b""
    """What unseals that object (:mod:`frazil_functions.sealed`)."""

    polars_version: str
    """The function refuses any other than its own."""

    protocol_version: int

    @property
    def id(self) -> str:
        """CloudEvents id: ``<query>/<stage>/<task>/<attempt>``."""
        return attempt_id(self.query, self.stage, self.task, self.attempt)


class BlockInfo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One block of a finished attempt's object."""

    partition: int
    """Partition that the block belongs to; for ``range``, the block's number in key order."""

    offset: int
    length: int
    rows: int
    crc32c: int
    codec: Codec
    low: bytes | None = None
    """Range exchange: row-encoded key of the first row."""


class TaskStats(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt used."""

    rows_in: int = 0
    """Rows read from exchange blocks and scans (scans: rows of the splits)."""

    rows_out: int = 0
    bytes_in: int = 0
    """Bytes of exchange blocks read."""

    bytes_out: int = 0
    """Encoded bytes written or sent inline."""

    requests: dict[str, int] = {}
    """Exchange-store requests by operation: ``get``, ``put``, ``head``, ``list``, ``delete``; and ``hedge``: those of them
    that were made beside slow ones."""

    seconds: float = 0.0
    """Wall time from request to descriptor."""

    peak_memory_bytes: int = 0
    cold_start: bool = False
    """Whether this was the process's first task."""


class KeySummary(msgspec.Struct, frozen=True, kw_only=True):
    """What values a column of a task's output has; nulls are not told of."""

    column: str
    values: bytes | None
    """An IPC file of one column: all different values when `complete`, else the least and the greatest. Empty when there is
    no value but null; None when they are too long to be told."""

    complete: bool


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished attempt reports: where its output is. A reader needs no LIST and no footer read."""

    key: str | None
    """Object key; None when the output travelled inline or is empty."""

    blocks: tuple[BlockInfo, ...]
    """Non-empty blocks, by partition, in row order inside a partition."""

    inline: bytes | None = None
    """The blocks' bytes back to back (offsets count from here) when the output travelled inline."""

    files: tuple[SinkFile, ...] = ()
    """Files of a sink, in the order of their rows; then there are no blocks."""

    keys: tuple[KeySummary, ...] = ()
    """The columns that `Output.key_columns` asked for, in that order."""

    stats: TaskStats = TaskStats()


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started"):
    """The function has accepted the task and begins."""

    cold_start: bool


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """The function is alive."""

    rows: int
    """Rows of output so far."""

    bytes: int
    """In-memory bytes of output so far."""

    memory_bytes: int
    """Resident memory of the process."""


class Succeeded(msgspec.Struct, frozen=True, kw_only=True, tag="succeeded"):
    """The attempt is done: its output is in place."""

    descriptor: Descriptor


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The attempt failed and published nothing."""

    error: WireError
    stats: TaskStats = TaskStats()


TaskEvent: TypeAlias = Started | Heartbeat | Succeeded | Failed

_ENCODER: Final = msgspec.msgpack.Encoder()
_JSON_ENCODER: Final = msgspec.json.Encoder()
_REQUEST: Final = msgspec.msgpack.Decoder(TaskRequest)
_EVENT: Final[msgspec.json.Decoder[TaskEvent]] = msgspec.json.Decoder(TaskEvent)


def encode_request(request: TaskRequest) -> bytes:
    """Return `request` as MessagePack."""
    return _ENCODER.encode(request)


def decode_request(body: bytes) -> TaskRequest:
    """Read a request.

    Raises
    ------
    ProtocolError
        When `body` is not a request of this protocol version.
    """
    try:
        return _REQUEST.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ProtocolError(f"not a task request: {error}") from error


def encode_event(event: TaskEvent) -> bytes:
    """Return the ``data`` member of the CloudEvent that carries `event`, as JSON (bytes fields in base64)."""
    return _JSON_ENCODER.encode(event)


def decode_event(data: bytes | msgspec.Raw) -> TaskEvent:
    """Read an event.

    Raises
    ------
    ProtocolError
        When `data` is not an event of this protocol version.
    """
    try:
        return _EVENT.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ProtocolError(f"not a task event: {error}") from error
