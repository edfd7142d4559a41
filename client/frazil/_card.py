"""How a query shows itself: a line in a terminal, a card in a notebook.

The card is static HTML: no script, nothing from elsewhere, light and dark by CSS alone, and readable without it. What
comes from users and functions (ids, labels, reasons, errors) is escaped. Made of values: :mod:`frazil._query` asks for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import msgspec

from frazil_coordinator.status import QueryState, QueryStatus, StageProgress
from frazil_functions.errors import WireError, from_wire

__all__ = ["card", "line"]

_MOST_STAGES: Final = 60
_MOST_REASONS: Final = 20
_MOST_CHARACTERS: Final = 2000
_LINE_CHARACTERS: Final = 100
_NOT_NEEDED: Final = "not_needed"

# A declaration with light-dark() stands behind one that every browser reads. The color-scheme is that of the system, but for
# notebooks with a theme of their own: JupyterLab, VS Code, Colab and Marimo say so by an attribute or class.
_STYLE: Final = """<style>
.frazil-query{color-scheme:light dark;max-width:60em;padding:.6em .9em;border:1px solid #8886;border-radius:6px;\
font:13px/1.45 system-ui,sans-serif;color:#17212b;color:light-dark(#17212b,#e4eaf0);\
background:#fff;background:light-dark(#fff,#182029)}
[data-jp-theme-light="true"] .frazil-query,.vscode-light .frazil-query{color-scheme:light}
[data-jp-theme-light="false"] .frazil-query,.vscode-dark .frazil-query,html[theme=dark] .frazil-query,\
.dark .frazil-query{color-scheme:dark}
.frazil-query p,.frazil-query ul,.frazil-query pre,.frazil-query table{margin:.35em 0}
.frazil-query .fq-state{font-weight:600}
.frazil-query .fq-succeeded{color:#1a7f4b;color:light-dark(#1a7f4b,#5cc98f)}
.frazil-query .fq-failed,.frazil-query .fq-error{color:#c0342b;color:light-dark(#c0342b,#ff8a80)}
.frazil-query .fq-cancelled,.frazil-query .fq-note{color:#9a5b00;color:light-dark(#9a5b00,#f0b552)}
.frazil-query .fq-error{white-space:pre-wrap;overflow-wrap:anywhere;background:none}
.frazil-query .fq-label{border:1px solid #8886;border-radius:3px;padding:0 .35em}
.frazil-query table{border-collapse:collapse;background:none}
.frazil-query th,.frazil-query td{padding:.1em .9em .1em 0;text-align:right;border:0;background:none}
.frazil-query .fq-text{text-align:left}
.frazil-query .fq-bar{display:inline-flex;width:9em;height:.7em;border-radius:3px;overflow:hidden;background:#8884;\
vertical-align:middle}
.frazil-query .fq-bar-done{background:#1a7f4b;background:light-dark(#1a7f4b,#5cc98f)}
.frazil-query .fq-bar-running{background:#3f8fd0}
</style>"""


class _Failed(msgspec.Struct, frozen=True):
    kind: str = ""


class _Stage(msgspec.Struct, frozen=True):
    stage: int
    seconds: float | None = None
    speculated: int = 0
    fallbacks: list[str] = []
    failed_attempts: list[_Failed] = []

    @property
    def failed(self) -> int:
        return sum(one.kind != _NOT_NEEDED for one in self.failed_attempts)


class _Used(msgspec.Struct, frozen=True):
    """What the card shows of a profile."""

    bytes_scanned: int | None = None
    dollars: float | None = None
    result_of: str = ""
    stages: list[_Stage] = []


def line(status: QueryStatus) -> str:
    """Return a query as one line of text."""
    parts = [status.state.value]
    if status.progress:
        parts.append(_done(status))
    if status.ended_unix_s is not None:
        parts.append(_seconds(status, status.ended_unix_s))
    if status.rows is not None:
        parts.append(f"{status.rows:,} rows")
    if status.waits_for and not status.state.ended:
        parts.append(f"waits for {status.waits_for}")
    if status.error is not None and status.state is QueryState.FAILED:
        parts.append(_clipped(_error(status.error).partition("\n")[0], _LINE_CHARACTERS))
    return f"<frazil.Query {status.id} {', '.join(parts)}>"


def card(status: QueryStatus, profile: Mapping[str, object] | None, *, told_unix_s: float, silent: str = "") -> str:
    """Return a query as HTML.

    Parameters
    ----------
    status, profile
        What is known of it; None: nothing is known of what it used.
    told_unix_s
        When the coordinator told it, in seconds since 1970.
    silent
        Why the coordinator can't be asked now; empty when it was.
    """
    notes = []
    if silent:
        notes.append(f"The coordinator can't be asked now, and this is what it told last: {silent}")
    try:
        used = _Used() if profile is None else msgspec.convert(dict(profile), _Used)
    except msgspec.ValidationError as unknown:  # whoever shows a query wants to see it, whatever is wrong
        used = _Used()
        notes.append(f"What it used is not told in a form that is known: {unknown}")
    if status.waits_for and not status.state.ended:
        notes.append(f"Waits for {status.waits_for}")
    if used.result_of:
        notes.append(f"Answered with the result of query {used.result_of}")
    error = None if status.error is None or status.state is not QueryState.FAILED else status.error
    parts = [
        _head(status),
        *(f'<p class="fq-note">{_text(note)}</p>' for note in notes),
        _figures(status, used, told_unix_s),
        "" if error is None else f'<pre class="fq-error">{_text(_error(error))}</pre>',
        _stages(status.progress, {stage.stage: stage for stage in used.stages}),
        _reasons(_fallbacks(status, used)),
    ]
    return f'<div class="frazil-query">{_STYLE}{"".join(parts)}</div>'


def _head(status: QueryStatus) -> str:
    state = status.state.value
    labels = "".join(f' <span class="fq-label">{_text(label)}</span>' for label in status.labels)
    return f'<p><b>Query</b> <code>{_text(status.id)}</code> <span class="fq-state fq-{state}">{state}</span>{labels}</p>'


def _figures(status: QueryStatus, used: _Used, told_unix_s: float) -> str:
    ended = told_unix_s if status.ended_unix_s is None else status.ended_unix_s
    figures = {"time": _seconds(status, ended)}
    if status.progress:
        attempts = sum(stage.attempts for stage in status.progress)
        figures |= {"tasks": _done(status), "attempts": f"{attempts:,}{_again(status, used)}"}
    if status.rows is not None:
        size = "" if status.bytes is None else f" ({_size(status.bytes)})"
        figures["result"] = f"{status.rows:,} rows{size}"
    if used.bytes_scanned is not None:
        figures["read"] = _size(used.bytes_scanned)
    if used.dollars is not None:
        figures["cost"] = _dollars(used.dollars)
    heads = "".join(f"<th>{name}</th>" for name in figures)
    cells = "".join(f"<td>{_text(value)}</td>" for value in figures.values())
    return f'<table class="fq-figures"><tr>{heads}</tr><tr>{cells}</tr></table>'


def _again(status: QueryStatus, used: _Used) -> str:
    """Return how many attempts failed and how many ran beside another one, as far as it is known."""
    if not used.stages:
        retried = sum(max(0, stage.attempts - stage.done - stage.running) for stage in status.progress)
        return f", {retried:,} retried" if retried else ""
    failed, speculated = (sum(getattr(stage, name) for stage in used.stages) for name in ("failed", "speculated"))
    return (f", {failed:,} failed" if failed else "") + (f", {speculated:,} speculative" if speculated else "")


def _stages(progress: Sequence[StageProgress], used: Mapping[int, _Stage]) -> str:
    if not progress:
        return ""
    rows = "".join(_stage(stage, used.get(stage.stage)) for stage in progress[:_MOST_STAGES])
    left = len(progress) - _MOST_STAGES
    more = f"<p>… and {left:,} more stages</p>" if left > 0 else ""
    heads = '<th>stage</th><th class="fq-text">kind</th><th class="fq-text">tasks</th><th>attempts</th><th>rows</th>'
    return f'<table class="fq-stages"><tr>{heads}<th>bytes</th><th>seconds</th></tr>{rows}</table>{more}'


def _stage(stage: StageProgress, used: _Stage | None) -> str:
    seconds = "" if used is None or used.seconds is None else f"{used.seconds:.1f}"
    failed = f" ({used.failed:,} failed)" if used is not None and used.failed else ""
    running = f", {stage.running:,} running" if stage.running else ""
    words = f"{stage.done:,}/{stage.tasks:,}{running}"
    parts = [("done", min(stage.done, stage.tasks)), ("running", min(stage.running, max(0, stage.tasks - stage.done)))]
    bar = "".join(
        f'<span class="fq-bar-{name}" style="width:{100 * count / max(1, stage.tasks):.1f}%"></span>'
        for name, count in parts
    )
    return (
        f'<tr><td>{stage.stage}</td><td class="fq-text">{_text(stage.kind)}</td>'
        f'<td class="fq-text"><span class="fq-bar" aria-hidden="true">{bar}</span> {words}</td>'
        f"<td>{stage.attempts:,}{failed}</td><td>{stage.rows:,}</td><td>{_size(stage.bytes)}</td><td>{seconds}</td></tr>"
    )


def _fallbacks(status: QueryStatus, used: _Used) -> list[str]:
    """Return why parts run in one task: those of the stages, and those that only the status tells."""
    by_stage = [(f"stage {stage.stage}: ", reason) for stage in used.stages for reason in stage.fallbacks]
    told = {reason for _, reason in by_stage}
    return [place + reason for place, reason in by_stage] + [one for one in status.fallbacks if one not in told]


def _reasons(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    items = "".join(f"<li>{_text(reason)}</li>" for reason in reasons[:_MOST_REASONS])
    left = len(reasons) - _MOST_REASONS
    more = f"<li>… and {left:,} more</li>" if left > 0 else ""
    return f'<p class="fq-note">Parts that run in one task:</p><ul>{items}{more}</ul>'


def _error(error: WireError) -> str:
    """Return an error with the name of the class that is raised for it."""
    raised = from_wire(error)
    return f"{error.exception or type(raised).__name__}: {raised}"


def _done(status: QueryStatus) -> str:
    done, tasks = (sum(getattr(stage, name) for stage in status.progress) for name in ("done", "tasks"))
    return f"{done:,} of {tasks:,} tasks"


def _seconds(status: QueryStatus, until_unix_s: float) -> str:
    return f"{max(0.0, until_unix_s - status.submitted_unix_s):,.1f} s"


def _text(text: str) -> str:
    return escape(_clipped(text, _MOST_CHARACTERS))


def _clipped(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _size(count: float) -> str:
    """Return a number of bytes for people, as EXPLAIN does."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _dollars(amount: float) -> str:
    """Return an amount with a digit that is not 0, if there is one."""
    return f"${amount:,.6f}" if amount == 0 or amount >= 0.000_001 else f"${amount:.1g}"
