"""EXPLAIN as values: what is planned, estimated and (after a run) measured of each stage.

The JSON form of an explanation, and what :mod:`frazil_coordinator.plan.explain` writes as text. Fields are only ever added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec

from frazil_coordinator.plan.figures import Amount, StageEstimate, total
from frazil_coordinator.plan.model import InlineSource, ScanSource, Source, Stage, StageGraph

__all__ = ["Figure", "Measured", "Predicted", "Report", "StageReport", "measured_report", "planned_report"]


class Figure(msgspec.Struct, frozen=True):
    """An amount of an estimate."""

    value: int
    bound: str
    """``exact``, ``at_most``, ``about`` or ``unknown`` (`frazil_coordinator.plan.figures.Amount`)."""

    @classmethod
    def of(cls, amount: Amount) -> Figure:
        """Return the same, for JSON."""
        return cls(amount.value, amount.bound)


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a stage, or of the whole query."""

    tasks: int
    rows_in: Figure
    rows_out: Figure
    bytes_scanned: Figure
    bytes_in: Figure
    bytes_out: Figure
    memory_bytes: int
    """Of the largest task."""

    memory_limit_bytes: int | None
    """What a function has; None when nobody said."""

    scan_gets: Figure
    gets: Figure
    puts: Figure
    function_seconds: float
    dollars: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a stage, or the whole query, did."""

    tasks: int
    """Tasks that it had in the end."""

    attempts: int
    rows_in: int
    rows_out: int
    bytes_scanned: int
    """By the footers; functions do not measure it."""

    bytes_in: int
    bytes_out: int
    memory_bytes: int
    """Peak of the task that needed most."""

    requests: dict[str, int]
    """To the exchange store, by operation."""

    seconds: float
    """Wall time."""

    function_seconds: float
    dollars: float
    cold_starts: int
    skew: float | None = None
    """Seconds of the longest task by those of the median one; None for less than two tasks."""

    adaptations: tuple[str, ...] = ()
    """What was changed while it ran, and why."""


class SourceReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a stage reads: a table, a frame, or another stage."""

    table: str | None = None
    files: int | None = None
    splits: int | None = None
    row_groups: int | None = None
    columns: int | None = None
    """Columns that are read."""

    table_columns: int | None = None
    """Columns that there are."""

    bytes: int | None = None
    pruned: dict[str, int] = {}
    """What was left out by statistics or folder names: ``files``, ``row_groups``."""

    frame_rows: int | None = None
    stage: int | None = None
    read: str | None = None
    """``partition``, ``range``, ``all``, ``task``; ``combined``: that stage copies into fewer objects what the others wrote,
    if there are too many."""


class StageReport(msgspec.Struct, frozen=True, kw_only=True):
    """A stage."""

    stage: int
    kind: str
    tasks: int
    distribution: str
    output: dict[str, object]
    """``kind`` and ``partitions``."""

    operators: tuple[str, ...]
    """The last step first done last."""

    sources: tuple[SourceReport, ...]
    fallbacks: tuple[str, ...]
    details: dict[str, str]
    reserve: bool = False
    """Whether it has no task unless a partition turns out skewed."""

    predicted: Predicted | None = None
    measured: Measured | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A query."""

    stages: tuple[StageReport, ...]
    """Producers before consumers."""

    predicted: Predicted | None = None
    measured: Measured | None = None


def planned_report(graph: StageGraph) -> Report:
    """Return the report of a plan."""
    estimates = graph.estimates or (None,) * len(graph.stages)
    stages = tuple(
        StageReport(
            stage=stage.id,
            kind=stage.kind,
            tasks=stage.tasks,
            distribution=stage.distribution,
            output={"kind": stage.output.kind, "partitions": stage.output.partitions},
            operators=stage.operators,
            sources=(*_combined(stage), *map(_source, stage.sources)),
            fallbacks=stage.fallbacks,
            details=dict(stage.details),
            reserve=stage.reserve,
            predicted=None if estimate is None else _predicted(0 if stage.reserve else stage.tasks, estimate),
        )
        for stage, estimate in zip(graph.stages, estimates, strict=True)
    )
    tasks = sum(stage.tasks for stage in graph.stages if not stage.reserve)
    return Report(stages=stages, predicted=_predicted_total(tasks, graph.estimates) if graph.estimates else None)


def _combined(stage: Stage) -> tuple[SourceReport, ...]:
    return () if stage.combiner is None else (SourceReport(stage=stage.combiner, read="combined"),)


def _source(source: Source) -> SourceReport:
    if isinstance(source, ScanSource):
        return SourceReport(
            table=source.path,
            files=source.files,
            splits=sum(len(group) for group in source.splits),
            row_groups=source.row_groups,
            columns=source.columns,
            table_columns=source.table_columns,
            bytes=source.bytes,
            pruned=dict(source.pruned),
        )
    if isinstance(source, InlineSource):
        return SourceReport(frame_rows=source.rows)
    return SourceReport(stage=source.stage, read=source.read)


def _predicted(tasks: int, estimate: StageEstimate) -> Predicted:
    return Predicted(
        tasks=tasks,
        rows_in=Figure.of(estimate.rows_in),
        rows_out=Figure.of(estimate.rows_out),
        bytes_scanned=Figure.of(estimate.bytes_scanned),
        bytes_in=Figure.of(estimate.bytes_in),
        bytes_out=Figure.of(estimate.bytes_out),
        memory_bytes=estimate.memory_bytes,
        memory_limit_bytes=estimate.memory_limit_bytes,
        scan_gets=Figure.of(estimate.scan_gets),
        gets=Figure.of(estimate.gets),
        puts=Figure.of(estimate.puts),
        function_seconds=estimate.function_seconds,
        dollars=estimate.dollars,
    )


def _predicted_total(tasks: int, estimates: Sequence[StageEstimate]) -> Predicted:
    return Predicted(
        tasks=tasks,
        rows_in=Figure.of(total(one.rows_in for one in estimates)),
        rows_out=Figure.of(estimates[-1].rows_out),
        bytes_scanned=Figure.of(total(one.bytes_scanned for one in estimates)),
        bytes_in=Figure.of(total(one.bytes_in for one in estimates)),
        bytes_out=Figure.of(total(one.bytes_out for one in estimates)),
        memory_bytes=max(one.memory_bytes for one in estimates),
        memory_limit_bytes=estimates[0].memory_limit_bytes,
        scan_gets=Figure.of(total(one.scan_gets for one in estimates)),
        gets=Figure.of(total(one.gets for one in estimates)),
        puts=Figure.of(total(one.puts for one in estimates)),
        function_seconds=sum(one.function_seconds for one in estimates),
        dollars=sum(one.dollars for one in estimates),
    )


# After a run


class _Task(msgspec.Struct, frozen=True):
    seconds: float


class _Stage(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a stage's profile that are shown."""

    stage: int
    tasks: int
    attempts: int
    rows_in: int
    rows_out: int
    bytes_in: int
    bytes_out: int
    requests: dict[str, int]
    seconds: float
    function_seconds: float
    peak_memory_bytes: int
    cold_starts: int
    bytes_scanned: int = 0
    dollars: float = 0.0
    adaptations: tuple[str, ...] = ()
    task_list: tuple[_Task, ...] = ()


class _Profile(msgspec.Struct, frozen=True, kw_only=True):
    stages: tuple[_Stage, ...]
    seconds: float = 0.0
    dollars: float = 0.0


def measured_report(planned: Report, profile: Mapping[str, object]) -> Report:
    """Return the report of a plan with what a run of it did.

    Parameters
    ----------
    planned
        The plan.
    profile
        What the run used: the form of ``query.profile()``.
    """
    figures = msgspec.convert(dict(profile), _Profile)
    measured = {stage.stage: _measured(stage) for stage in figures.stages}
    stages = tuple(msgspec.structs.replace(stage, measured=measured.get(stage.stage)) for stage in planned.stages)
    return Report(stages=stages, predicted=planned.predicted, measured=_measured_total(figures, list(measured.values())))


def _measured(stage: _Stage) -> Measured:
    seconds = [task.seconds for task in stage.task_list]
    middle = median(seconds) if len(seconds) > 1 else 0.0
    return Measured(
        tasks=stage.tasks,
        attempts=stage.attempts,
        rows_in=stage.rows_in,
        rows_out=stage.rows_out,
        bytes_scanned=stage.bytes_scanned,
        bytes_in=stage.bytes_in,
        bytes_out=stage.bytes_out,
        memory_bytes=stage.peak_memory_bytes,
        requests=dict(stage.requests),
        seconds=stage.seconds,
        function_seconds=stage.function_seconds,
        dollars=stage.dollars,
        cold_starts=stage.cold_starts,
        skew=max(seconds) / middle if middle > 0 else None,
        adaptations=stage.adaptations,
    )


def _measured_total(profile: _Profile, stages: Sequence[Measured]) -> Measured:
    operations = sorted({name for stage in stages for name in stage.requests})
    return Measured(
        tasks=sum(stage.tasks for stage in stages),
        attempts=sum(stage.attempts for stage in stages),
        rows_in=sum(stage.rows_in for stage in stages),
        rows_out=stages[-1].rows_out if stages else 0,
        bytes_scanned=sum(stage.bytes_scanned for stage in stages),
        bytes_in=sum(stage.bytes_in for stage in stages),
        bytes_out=sum(stage.bytes_out for stage in stages),
        memory_bytes=max((stage.memory_bytes for stage in stages), default=0),
        requests={name: sum(stage.requests.get(name, 0) for stage in stages) for name in operations},
        seconds=profile.seconds,
        function_seconds=sum(stage.function_seconds for stage in stages),
        dollars=profile.dollars,
        cold_starts=sum(stage.cold_starts for stage in stages),
    )
