"""EXPLAIN as text: the stages as a tree, and a table of their figures.

Written from a :class:`~frazil_coordinator.plan.report.Report`, before a run (estimates) or after one (measured beside
them). Plain text: the command line colours it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from frazil_coordinator.plan.report import Figure, Measured, Predicted, Report, SourceReport, StageReport

__all__ = ["explain_text"]

_WIDEST: Final = 160
"""Characters at which a line is cut; JSON has the whole."""

_MARKS: Final = {"exact": "", "at_most": "≤", "about": "~", "unknown": "?"}
_DETAILS: Final = {
    "columns sent": "sends {} columns",
    "filter added": "filter of a later stage, done here: {}",
    "rows sent at most": "sends at most {} rows",
    "runtime filter": "may be filtered by keys that are known then: {}",
    "not shuffled if small": "joined where it lies if stage {} turns out small",
    "first step": "stops to aggregate before the shuffle if {}",
    "only if": "has no task unless {}",
    "splits left out": "leaves out {} splits",
}
_SHARES: Final = ("columns sent", "splits left out")
_LEGEND: Final = "≤ at most · ~ a guess · ? not known beforehand · read, written: the exchange · memory: of the largest task"


def explain_text(report: Report) -> str:
    """Return a plan as text: the root first, each stage with its inputs under it, then the figures.

    A stage that several stages read is written once, where it is first read; those in reserve, if idle, are only named.
    """
    lines = _Tree(report).lines()
    if report.predicted is not None:
        lines += ["", *_table(report)]
    return "\n".join(line.rstrip() for line in lines)


class _Tree:
    """Writes the stages."""

    def __init__(self, report: Report) -> None:
        self._stages = {stage.stage: stage for stage in report.stages}
        self._root = report.stages[-1]
        self._written: set[int] = set()
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        self._write(self._root, "", "")
        return self._lines

    def _write(self, stage: StageReport, head: str, indent: str) -> None:
        """Write a stage; `head` goes before its first line, `indent` before the others."""
        if stage.stage in self._written:
            self._lines.append(f"{head}STAGE {stage.stage} (above)")
            return
        self._written.add(stage.stage)
        output = "result" if stage is self._root else _output(stage)
        tasks = _plural(stage.tasks, "task")
        self._lines.append(f"{head}STAGE {stage.stage} {stage.kind} · {tasks} · {stage.distribution} → {output}")
        sources = [self._stages[source.stage] for source in stage.sources if source.stage is not None]
        children = [source for source in sources if not _is_idle(source)]
        reserve = self._reserve(source for source in sources if _is_idle(source))
        bar = f"{indent}{'│' if children else ' '}  "
        self._lines.extend(_clip(f"{bar}{text}") for text in _body(stage))
        if reserve:
            numbers = ", ".join(map(str, sorted(reserve)))
            self._lines.append(
                _clip(f"{bar}in reserve, without a task unless a partition turns out skewed: stages {numbers}")
            )
        for number, child in enumerate(children):
            last = number == len(children) - 1
            self._write(child, f"{indent}{'└─ ' if last else '├─ '}", f"{indent}{'   ' if last else '│  '}")

    def _reserve(self, stages: Iterable[StageReport]) -> set[int]:
        """Return the numbers of stages in reserve, and of those that they read."""
        found: set[int] = set()
        todo = list(stages)
        while todo:
            stage = todo.pop()
            found.add(stage.stage)
            sources = [self._stages[source.stage] for source in stage.sources if source.stage is not None]
            todo += [source for source in sources if source.reserve and source.stage not in found]
        return found


def _is_idle(stage: StageReport) -> bool:
    """Return whether a stage is in reserve, and was not needed so far."""
    return stage.reserve and (stage.measured is None or not stage.measured.tasks)


def _body(stage: StageReport) -> list[str]:
    """Return what a stage does, the last step first, and what it reads."""
    lines = list(reversed(stage.operators))
    lines += [_detail(name, value) for name, value in stage.details.items()]
    lines += [text for source in stage.sources if (text := _source(source))]
    lines += [f"! one task: {reason}" for reason in stage.fallbacks]
    if (need := stage.predicted) is not None and need.memory_bytes > (need.memory_limit_bytes or need.memory_bytes):
        limit = _size(need.memory_limit_bytes or 0)
        lines.append(f"! memory: a task may need {_size(need.memory_bytes)}, more than the {limit} of a function")
    if stage.measured is not None:
        lines += [f"* {text}" for text in stage.measured.adaptations]
    return lines


def _detail(name: str, value: str) -> str:
    return _DETAILS.get(name, f"{name}: {{}}").format(value.replace("/", " of ") if name in _SHARES else value)


def _output(stage: StageReport) -> str:
    kind, partitions = stage.output["kind"], stage.output["partitions"]
    return f"{kind}({partitions} partitions)" if kind == "hash" else str(kind)


def _source(source: SourceReport) -> str:
    if source.table is not None:
        files, row_groups = (source.pruned.get(name, 0) for name in ("files", "row_groups"))
        parts = [
            _plural(source.files or 0, "file")
            if not files
            else f"files {source.files or 0:,} of {(source.files or 0) + files:,}",
            *_row_groups(source.row_groups or 0, row_groups),
            _plural(source.splits or 0, "split"),
            *([f"{source.columns} of {source.table_columns} columns"] if source.table_columns else []),
            f"{_size(source.bytes or 0)} compressed",
        ]
        return f"← {source.table}: {', '.join(parts)}"
    if source.frame_rows is not None:
        return f"← frame of {_plural(source.frame_rows, 'row')}"
    return ""  # a stage is drawn below


def _row_groups(read: int, pruned: int) -> list[str]:
    """Return how many row groups are read, and of how many."""
    if pruned:
        return [f"row groups {read:,} of {read + pruned:,}"]
    return [_plural(read, "row group")] if read else []


# Figures


def _table(report: Report) -> list[str]:
    """Return the figures of the stages in aligned columns, and their total."""
    analyzed = report.measured is not None
    heads = [
        "stage",
        "tasks",
        "rows in",
        "rows out",
        "scanned",
        "read",
        "written",
        "memory",
        "GET",
        "PUT",
        "function s",
        "$",
    ]
    if analyzed:
        heads = [heads[0], "", *heads[1:], "s", "skew", "cold"]
    rows = [heads]
    named = [
        (f"{stage.stage} {stage.kind}", stage.predicted, stage.measured)
        for stage in reversed(report.stages)
        if not _is_idle(stage)
    ]
    for name, predicted, measured in [*named, ("total", report.predicted, report.measured)]:
        if predicted is not None:
            rows.append([name, *(["planned"] if analyzed else []), *_predicted(predicted), *([""] * 3 if analyzed else [])])
        if measured is not None:
            rows.append(["", "measured", *_measured(measured)])
    left = {0, 1} if analyzed else {0}
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "─" * max(len(line.rstrip()) for line in lines)
    totals = 2 if analyzed else 1
    scans = report.predicted.scan_gets if report.predicted is not None else None
    notes = [_LEGEND]
    if scans is not None and scans.value:
        notes.append(f"GET for files of tables, not in the column GET but in $: {_figure(scans)}")
    return [*lines[:-totals], rule, *lines[-totals:], "", *notes]


def _predicted(figures: Predicted) -> list[str]:
    return [
        f"{figures.tasks:,}",
        _figure(figures.rows_in),
        _figure(figures.rows_out),
        _bytes(figures.bytes_scanned),
        _bytes(figures.bytes_in),
        _bytes(figures.bytes_out),
        f"~{_size(figures.memory_bytes)}",
        _figure(figures.gets),
        _figure(figures.puts),
        f"~{figures.function_seconds:.1f}",
        f"~{figures.dollars:.6f}",
    ]


def _measured(figures: Measured) -> list[str]:
    retried = figures.attempts - figures.tasks
    return [
        f"{figures.tasks:,}" + (f"+{retried}" if retried > 0 else ""),
        f"{figures.rows_in:,}",
        f"{figures.rows_out:,}",
        _size(figures.bytes_scanned),
        _size(figures.bytes_in),
        _size(figures.bytes_out),
        _size(figures.memory_bytes),
        f"{figures.requests.get('get', 0):,}",
        f"{figures.requests.get('put', 0):,}",
        f"{figures.function_seconds:.1f}",
        f"{figures.dollars:.6f}",
        f"{figures.seconds:.1f}",
        "" if figures.skew is None else f"{figures.skew:.1f}",
        f"{figures.cold_starts}",
    ]


def _figure(figure: Figure) -> str:
    if figure.bound == "unknown":
        return f"≥{figure.value:,}?" if figure.value else "?"
    return f"{_MARKS[figure.bound]}{figure.value:,}"


def _bytes(figure: Figure) -> str:
    if figure.bound == "unknown":
        return f"≥{_size(figure.value)}?" if figure.value else "?"
    return f"{_MARKS[figure.bound]}{_size(figure.value)}" if figure.value else _size(0)


def _size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _clip(line: str) -> str:
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
