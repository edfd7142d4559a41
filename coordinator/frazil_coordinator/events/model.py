"""What a trigger is: values, what may be said of one, and what is told of one.

It knows no plan and no store; :mod:`frazil_coordinator.events.definitions` keeps triggers, and
:mod:`frazil_coordinator.events.preparing` looks at their queries.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import msgspec

from frazil_functions.errors import RequestError

__all__ = [
    "DeadLetter",
    "Lag",
    "Mode",
    "ObjectRef",
    "Owned",
    "SinkFormat",
    "Trigger",
    "TriggerConflictError",
    "TriggerSource",
    "TriggerStatus",
    "TriggerView",
    "UnknownTriggerError",
    "Window",
    "check_trigger_name",
]

Mode: TypeAlias = Literal["append", "refresh", "incremental"]
"""``append``: the query over the new objects adds files to a folder. ``refresh``: the whole query replaces one file.
``incremental``: aggregates of the new objects are merged into those kept, and the result replaces one file."""

SinkFormat: TypeAlias = Literal["parquet", "csv", "ndjson", "ipc"]

_NAME: Final = re.compile("^[A-Za-z_][A-Za-z0-9_-]{0,127}$")
_SCHEMES: Final = ("s3://", "s3a://", "gs://", "gcs://", "az://", "azure://", "abfs://", "abfss://")
_LEAST_LISTING_S: Final = 1.0
_LEAST_LATENESS_S: Final = 3600.0
_MOST_COUNT: Final = 10_000


class UnknownTriggerError(RequestError):
    """The tenant has no such trigger."""


class TriggerConflictError(RequestError):
    """The trigger is not of the version that was named, or somebody changed it at the same time."""


class ObjectRef(msgspec.Struct, frozen=True, kw_only=True):
    """One version of one object, as its store tells of it."""

    url: str
    """Path or URL, as polars takes it."""

    etag: str
    """Without quotes."""

    size: int
    """Bytes."""

    modified_unix_s: float
    """When it was last written, by the store's clock."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An object that was given up."""

    object: ObjectRef
    reason: str
    """What the query said of it the last time."""

    kind: str
    """Kind of that error."""

    attempts: int
    query: str = ""
    """The query that failed last."""

    buried_unix_s: float = 0.0


class Window(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When new objects are taken up together: as soon as any of these is reached. With none, at once."""

    count: int | None = None
    """So many objects."""

    bytes: int | None = None
    """So many bytes."""

    seconds: float | None = None
    """So long after the oldest of them was noticed."""

    def check(self) -> None:
        """Refuse what is no window.

        Raises
        ------
        RequestError
            When a number is out of its range.
        """
        if self.count is not None and not 1 <= self.count <= _MOST_COUNT:
            raise RequestError(f"window: count must be from 1 to {_MOST_COUNT:,}, not {self.count}")
        if self.bytes is not None and self.bytes < 1:
            raise RequestError(f"window: bytes must be above 0, not {self.bytes}")
        if self.seconds is not None and not 0 <= self.seconds <= 7 * 86_400:
            raise RequestError(f"window: seconds must be from 0 to 604,800, not {self.seconds}")


class TriggerSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says of a trigger."""

    source: str
    """Folder, or beginning of keys: ``s3://bucket/in/``, ``s3://bucket/in/2026-``, ``/data/in/``."""

    suffix: str = ""
    """What the names of its objects end with."""

    sql: str = ""
    """A statement over named tables; this or `plan`."""

    plan: bytes = b""
    """Bytes of ``LazyFrame.serialize()``; in JSON as base64."""

    sink: str = ""
    """Where the output goes: a folder (``…/``) in mode append, one file otherwise. May be left out when the plan has one."""

    format: SinkFormat | None = None
    """Of the output; None: by the sink's suffix, else Parquet."""

    storage_options: dict[str, str] = {}
    """Of the sink's store. None given: those of the scan, if it reads from a store of the same kind."""

    mode: Mode = "append"
    window: Window = Window()
    backfill: bool = True
    """Whether objects that are there already count as new; if not, only those modified after the trigger was made do."""

    max_attempts: int = 3
    """Times that one object may fail the query until it is given up."""

    list_every_s: float = 60.0
    """Seconds between listings of the source, which find what no notification told of."""

    lateness_s: float = 7 * 86_400.0
    """Seconds after which an object's place in the consumed set is given up for a bound on times: an object that appears
    later than that after its own last-modified time is not seen. Not for folders, whose sets are exact."""

    priority: int = 0
    """Of its queries, from -10 to 10."""

    comment: str = ""

    def checked(self) -> TriggerSource:
        """Return the same.

        Raises
        ------
        RequestError
            When a value is not what it may be.
        """
        if not self.source.startswith(("/", *_SCHEMES)) or any(one in self.source for one in "*?[\0"):
            raise RequestError(
                f"source {self.source!r} must be a folder or the beginning of keys, without wildcards: an absolute path, or "
                f"a URL of {', '.join(_SCHEMES)}"
            )
        if self.source.startswith("/") and not self.source.endswith("/"):
            raise RequestError(f"source {self.source!r} must be a folder: end it with /")
        if "@" in self.source.partition("://")[2].partition("/")[0] and not self.source.startswith("abfs"):
            raise RequestError("source must not hold a user or a password")
        if bool(self.sql.strip()) == bool(self.plan):
            raise RequestError("a trigger needs either sql, a statement over named tables, or plan, a serialised LazyFrame")
        if self.sql and not self.sink:
            raise RequestError("sink: say where the output goes: a folder such as s3://bucket/out/, or one file")
        self.window.check()
        if not 1 <= self.max_attempts <= 100:
            raise RequestError(f"max_attempts must be from 1 to 100, not {self.max_attempts}")
        if not _LEAST_LISTING_S <= self.list_every_s <= 86_400:
            raise RequestError(f"list_every_s must be from {_LEAST_LISTING_S:g} to 86,400, not {self.list_every_s}")
        if not self.lateness_s >= _LEAST_LATENESS_S:
            raise RequestError(f"lateness_s must be {_LEAST_LATENESS_S:g} at least, not {self.lateness_s}")
        return self


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A stored trigger, without its plan."""

    name: str
    id: str
    """Random; another one when a trigger of the name is made anew."""

    source: str
    suffix: str = ""
    sql: str = ""
    sink: str
    mode: Mode
    window: Window = Window()
    since_unix_s: float = 0.0
    """Objects modified before this were never taken for new."""

    max_attempts: int = 3
    list_every_s: float = 60.0
    lateness_s: float = 7 * 86_400.0
    priority: int = 0
    comment: str = ""
    paused: bool = False
    version: int = 0
    """1 when it is made, and one more with each change; its entity tag."""

    created_unix_s: float = 0.0
    changed_unix_s: float = 0.0


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """How far the output is behind the objects."""

    pending_objects: int = 0
    """Known and not in the output, those being read included."""

    pending_bytes: int = 0
    oldest_s: float = 0.0
    """Seconds since the oldest of them was noticed; 0 without one."""


class TriggerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a trigger has done, and does now."""

    state: Literal["starting", "idle", "waiting", "running", "retrying", "paused", "halted"]
    """``waiting``: for its window. ``retrying``: after a failure. ``halted``: see `reason`; resume it."""

    reason: str = ""
    """Why it is halted, or what failed last."""

    lag: Lag = Lag()
    windows: int = 0
    """Published, ever."""

    objects: int = 0
    bytes: int = 0
    """Compressed bytes of the objects in the output."""

    rows: int = 0
    """Written."""

    files: int = 0
    dead_letters: int = 0
    last_published_unix_s: float | None = None
    last_listed_unix_s: float | None = None
    last_query: str = ""
    """Of the window that runs, or ran last, whatever came of it."""

    consumed_exactly: int = 0
    """Entries of the consumed set."""

    consumed_before_unix_s: float = 0.0
    """Time of modification before which all objects count as consumed."""


class TriggerView(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger and what it does."""

    trigger: Trigger
    status: TriggerStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """A trigger, whose it is, and its plan."""

    tenant: str
    trigger: Trigger
    plan: bytes
    """Ends in a sink. It may hold credentials."""


def check_trigger_name(name: str) -> str:
    """Return `name`.

    Raises
    ------
    RequestError
        When it is no name of a trigger.
    """
    if _NAME.fullmatch(name) is None:
        raise RequestError(f"{name!r} is no name of a trigger: letters, digits, _ and -, not a digit first, at most 128")
    return name
