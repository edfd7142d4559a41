"""What the coordinator tells about a query: values in-process, JSON on the API (docs/http-api.md).

The same types serve both faces: :mod:`frazil_coordinator.coordinator` makes them, :mod:`frazil_coordinator.api` encodes
them, and the client decodes them (:func:`decode_status`, :func:`decode_event`). Fields are only ever added, with a default.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeVar

import msgspec

from frazil_functions.errors import RequestError, WireError
from frazil_functions.ids import QueryId, StageId

__all__ = [
    "Explanation",
    "QueryEvent",
    "QueryState",
    "QueryStatus",
    "StageProgress",
    "Wanted",
    "decode_event",
    "decode_explanation",
    "decode_status",
    "decode_statuses",
    "encode",
]


class QueryState(StrEnum):
    """Where a query stands: ``planning → queued → running →`` one of the three ends.

    One that waits for its turn is ``queued`` before it is planned.
    """

    PLANNING = "planning"
    """The plan is being cut into stages."""

    QUEUED = "queued"
    """Planned, and no task has started yet; or it waits to be planned (`QueryStatus.waits_for`)."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether the state never changes again."""
        return self in (QueryState.SUCCEEDED, QueryState.FAILED, QueryState.CANCELLED)


class StageProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far one stage is."""

    stage: StageId
    kind: str
    """What the stage mainly does: ``scan``, ``join``, ... (`frazil_coordinator.plan.model.StageKind`)."""

    tasks: int
    """Tasks of the stage, as far as it is known."""

    done: int = 0
    """Tasks that have committed their output."""

    running: int = 0
    """Attempts in flight."""

    attempts: int = 0
    """Attempts sent so far; more than `tasks` when some were retried."""

    rows: int = 0
    """Rows of output of finished tasks."""

    bytes: int = 0
    """Encoded bytes of output of finished tasks."""


class QueryStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a query at one moment."""

    id: QueryId
    state: QueryState
    submitted_unix_s: float
    """When it was accepted, in seconds since 1970."""

    started_unix_s: float | None = None
    """When its first task could start (it was planned), in seconds since 1970."""

    ended_unix_s: float | None = None
    """When it reached its end, in seconds since 1970."""

    labels: tuple[str, ...] = ()
    """What the submitter called it."""

    error: WireError | None = None
    """Why it failed or was cancelled; `frazil_functions.errors.from_wire` makes the exception of it."""

    progress: tuple[StageProgress, ...] = ()
    """By stage, producers before consumers; empty until it is planned."""

    rows: int | None = None
    """Rows of the result; None until it succeeded."""

    bytes: int | None = None
    """Encoded bytes of the result; None until it succeeded."""

    fallbacks: tuple[str, ...] = ()
    """Reasons why parts of the plan run in one task; empty unless the query's ``fallback`` is ``warn``."""

    tenant: str = "default"
    """Whose query it is (docs/tenants.md)."""

    priority: int = 0
    """Among the queries of its tenant; the highest first."""

    waits_for: str = ""
    """What a queued query waits for, and how many are before it; empty when it does not wait."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which queries a list shows; None is any."""

    limit: int = 100
    """At most so many, the newest."""

    state: QueryState | None = None
    label: str | None = None
    tenant: str | None = None
    text: str | None = None
    """Somewhere in the id, a label, the tenant or the error; upper and lower case are the same."""

    since_unix_s: float | None = None
    """Submitted then or later, in seconds since 1970."""

    def has(self, status: QueryStatus) -> bool:
        """Return whether a query is wanted."""
        return (
            (self.state is None or status.state is self.state)
            and (self.label is None or self.label in status.labels)
            and (self.tenant is None or status.tenant == self.tenant)
            and (self.since_unix_s is None or status.submitted_unix_s >= self.since_unix_s)
            and (self.text is None or self.text.casefold() in _searched(status))
        )


def _searched(status: QueryStatus) -> str:
    error = "" if status.error is None else status.error.message
    return "\n".join((status.id, *status.labels, status.tenant, error)).casefold()


class QueryEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a query."""

    kind: Literal["state", "progress"]
    """``state`` when the state changed since the event before (the first event is one), else ``progress``."""

    status: QueryStatus
    number: int = 0
    """Number of the change in its query, ascending; the ``id`` of a server-sent event."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """How a query is, or would be, cut into stages."""

    text: str
    """For people."""

    stages: tuple[dict[str, object], ...] = ()
    """For programs: one JSON object a stage, producers before consumers (docs/http-api.md)."""

    predicted: dict[str, object] | None = None
    """The estimate of the whole query: the same members as ``predicted`` of a stage."""

    measured: dict[str, object] | None = None
    """What the whole query did, when it was run: the same members as ``measured`` of a stage."""

    sql: str = ""
    """The statement that the query was made of, while this coordinator knows it; it is in no journal."""

    columns: tuple[dict[str, str], ...] = ()
    """Columns of the result: ``name`` and ``dtype``, as Polars writes it (``Int64``, ``List(String)``)."""

    def __str__(self) -> str:
        return self.text


_Value = TypeVar("_Value")

_ENCODER: Final = msgspec.json.Encoder()
_STATUS: Final = msgspec.json.Decoder(QueryStatus)
_STATUSES: Final = msgspec.json.Decoder(tuple[QueryStatus, ...])
_EVENT: Final = msgspec.json.Decoder(QueryEvent)
_EXPLANATION: Final = msgspec.json.Decoder(Explanation)


def encode(value: QueryStatus | QueryEvent | Explanation | tuple[QueryStatus, ...]) -> bytes:
    """Return `value` as JSON."""
    return _ENCODER.encode(value)


def decode_status(body: bytes) -> QueryStatus:
    """Read what ``GET /v1/queries/{id}`` answers.

    Raises
    ------
    RequestError
        When `body` is not a status, e.g. because something else than a coordinator answered.
    """
    return _decode(_STATUS, body)


def decode_statuses(body: bytes) -> tuple[QueryStatus, ...]:
    """Read what ``GET /v1/queries`` answers. Raises as :func:`decode_status`."""
    return _decode(_STATUSES, body)


def decode_event(data: bytes) -> QueryEvent:
    """Read the ``data`` of an event of ``GET /v1/queries/{id}/events``. Raises as :func:`decode_status`."""
    return _decode(_EVENT, data)


def decode_explanation(body: bytes) -> Explanation:
    """Read what ``POST /v1/explain`` and ``GET /v1/queries/{id}/plan`` answer. Raises as :func:`decode_status`."""
    return _decode(_EXPLANATION, body)


def _decode(decoder: msgspec.json.Decoder[_Value], body: bytes) -> _Value:
    try:
        return decoder.decode(body)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise RequestError(f"not an answer of a Frazil coordinator: {error}") from error
