"""A query that has ended as a tree of spans: query, stages, attempts. Values only, made of the status and the profile.

Ids are derived (:func:`frazil_functions.ids.trace_id`): whoever knows the id of a query or an attempt knows those of its
trace and span. Next: :mod:`frazil_coordinator.tracing`, which sends them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.ids import QueryId, StageId, TaskIndex, attempt_id, span_id

__all__ = ["MOST_ATTEMPTS", "Span", "spans_of"]

MOST_ATTEMPTS: Final = 4096
"""Attempts of a query that have spans: those that failed, and the longest."""

_Value: TypeAlias = str | int | float | bool
_FIGURES: Final = ("rows_in", "rows_out", "bytes_in", "bytes_out", "peak_memory_bytes", "cold_start", "reused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took a while."""

    name: str
    id: int
    parent: int | None
    began_unix_s: float
    ended_unix_s: float
    attributes: Mapping[str, _Value] = field(default_factory=dict)
    error: str = ""
    """Why it gave no answer; empty when it did."""


def spans_of(status: QueryStatus, profile: Mapping[str, Any]) -> list[Span]:
    """Return the spans of a query: itself first, then each stage that was begun with its attempts.

    Parameters
    ----------
    status
        Of a query that has ended.
    profile
        Its profile as JSON values; empty when it never ran.
    """
    ended = status.ended_unix_s or status.submitted_unix_s
    began = status.started_unix_s or ended
    stages: Sequence[Mapping[str, Any]] = profile.get("stages", ())
    attempts = sorted((one for stage in stages for one in _attempts(status.id, stage, began, ended)), key=_rank)
    kept: dict[int | None, list[Span]] = {}
    for one in attempts[:MOST_ATTEMPTS]:
        kept.setdefault(one.parent, []).append(one)
    spans = [_query(status, ended)]
    for stage in stages:
        own = sorted(kept.get(span_id(f"{status.id}/{stage['stage']}"), ()), key=lambda one: one.began_unix_s)
        if stage["attempts"] or stage.get("reused"):
            spans += [_stage(status.id, stage, own, began), *own]
    return spans


def _rank(span: Span) -> tuple[bool, float]:
    """Return the place of an attempt: those that failed first, then the longest."""
    return not span.error, span.began_unix_s - span.ended_unix_s


def _query(status: QueryStatus, ended: float) -> Span:
    attributes: dict[str, _Value] = {
        "frazil.query": status.id,
        "frazil.tenant": status.tenant,
        "frazil.state": status.state.value,
        "frazil.priority": status.priority,
        "frazil.labels": ",".join(status.labels),
    }
    if status.started_unix_s is not None:
        attributes["frazil.waited_s"] = status.started_unix_s - status.submitted_unix_s
    if status.rows is not None:
        attributes["frazil.rows"] = status.rows
    # The kind alone: a message may name files and hold values of the user's.
    error = status.error.kind if status.error is not None and status.state is not QueryState.SUCCEEDED else ""
    return Span(
        name="query",
        id=span_id(status.id),
        parent=None,
        began_unix_s=status.submitted_unix_s,
        ended_unix_s=ended,
        attributes=attributes,
        error=error,
    )


def _stage(query: QueryId, stage: Mapping[str, Any], own: Sequence[Span], began: float) -> Span:
    first = min((one.began_unix_s for one in own), default=began)
    attributes: dict[str, _Value] = {
        "frazil.query": query,
        "frazil.stage": stage["stage"],
        "frazil.kind": stage["kind"],
        **{f"frazil.{name}": stage[name] for name in ("tasks", "attempts", "rows_in", "rows_out", "bytes_in", "bytes_out")},
        **{f"frazil.requests.{name}": count for name, count in stage["requests"].items()},
    }
    return Span(
        name=f"stage {stage['kind']}",
        id=span_id(f"{query}/{stage['stage']}"),
        parent=span_id(query),
        began_unix_s=first,
        ended_unix_s=max((one.ended_unix_s for one in own), default=first + stage["seconds"]),
        attributes=attributes,
    )


def _attempts(query: QueryId, stage: Mapping[str, Any], began: float, ended: float) -> Iterator[Span]:
    number = StageId(stage["stage"])
    for one in stage["task_list"]:
        figures = {name: one[name] for name in _FIGURES if name in one}
        yield _attempt(query, number, one, began + one["began_s"], began + one["ended_s"], figures)
    for one in stage["failed_attempts"]:
        first = began + one["began_s"]
        figures = {f"requests.{name}": count for name, count in one["requests"].items()}
        yield _attempt(query, number, one, first, first + one["seconds"], figures, error=one["kind"])
    for one in stage["running"]:
        yield _attempt(query, number, one, began + one["began_s"], ended, {}, error="abandoned")


def _attempt(
    query: QueryId,
    stage: StageId,
    one: Mapping[str, Any],
    began: float,
    ended: float,
    figures: Mapping[str, _Value],
    *,
    error: str = "",
) -> Span:
    return Span(
        name="task",
        id=span_id(attempt_id(query, stage, TaskIndex(one["task"]), one["attempt"])),
        parent=span_id(f"{query}/{stage}"),
        began_unix_s=began,
        ended_unix_s=ended,
        attributes={
            "frazil.query": query,
            "frazil.stage": stage,
            "frazil.task": one["task"],
            "frazil.attempt": one["attempt"],
            **{f"frazil.{name}": value for name, value in figures.items()},
        },
        error="" if error == "not_needed" else error,
    )
