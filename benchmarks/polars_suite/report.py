"""What the records of a run say: the two figures, why queries fell back, what failed; and whether that was expected."""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.polars_suite.records import TestRecord

__all__ = ["EXCEPTIONS", "Verdict", "judge", "read_exceptions", "render"]

EXCEPTIONS: Final = Path(__file__).with_name("exceptions.toml")
_LINES: Final = 25
_SHOWN: Final = 40
_FUNCTIONS: Final = re.compile(r"(?<=\.)(\w+)\(")
_PLAIN_FUNCTIONS: Final = frozenset({"alias", "cast", "strict_cast", "all", "by_name"})
_NAMES: Final = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b\d[\d.,:-]*\b|/[\w/.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A run against its baseline."""

    baseline: tuple[str, ...]
    """Tests that pass on Polars alone."""

    passed: tuple[str, ...]
    excused: tuple[str, ...]
    """Failed, and in the table of exceptions."""

    failed: Mapping[str, str]
    """Failed otherwise: id → error."""

    stale: tuple[str, ...]
    """Exceptions that excuse no failure although all their tests ran."""

    multi_row: tuple[str, ...]
    """Tests with a query over more rows than a split has."""

    distributed: tuple[str, ...]
    """Those of them with such a query that ran in several tasks of a stage, without a fallback."""

    fallbacks: Mapping[str, int]
    """Reason → tests with a multi-row query that fell back for it."""

    @property
    def is_good(self) -> bool:
        """Whether every failure was expected, and every exception needed."""
        return not self.failed and not self.stale


def read_exceptions(path: Path = EXCEPTIONS) -> Mapping[str, str]:
    """Return test id → why it may fail; an id without parameters stands for all of them."""
    table = tomllib.loads(path.read_text())
    return {test: str(reason) for test, reason in table.items()}


def judge(baseline: Mapping[str, TestRecord], records: Mapping[str, TestRecord], exceptions: Mapping[str, str]) -> Verdict:
    """Compare a run with its baseline.

    Parameters
    ----------
    baseline
        Records of Polars alone.
    records
        Records of the same tests through Frazil. A test that is missing here counts as failed.
    exceptions
        Test id → why it may fail.
    """
    wanted = tuple(test for test, record in baseline.items() if record.outcome == "passed")
    lost = TestRecord(id="", outcome="failed", error="did not run: its worker ended")
    ran = {test: records.get(test, lost) for test in wanted}
    bad = {test: record for test, record in ran.items() if record.outcome != "passed"}
    covers: dict[str, set[str]] = defaultdict(set)
    for test in wanted:
        for name in {test, test.partition("[")[0]} & set(exceptions):
            covers[name].add(test)
    excused = tuple(test for test in bad if any(test in tests for tests in covers.values()))
    multi_row = tuple(test for test, record in ran.items() if record.is_multi_row)
    return Verdict(
        baseline=wanted,
        passed=tuple(test for test in wanted if test not in bad),
        excused=excused,
        failed={test: record.error for test, record in bad.items() if test not in excused},
        stale=tuple(name for name, tests in covers.items() if not tests & set(bad)),
        multi_row=multi_row,
        distributed=tuple(test for test in multi_row if ran[test].is_distributed),
        fallbacks=_reasons(ran[test] for test in multi_row),
    )


def _short(reason: str) -> str:
    """Return a reason with the functions of its expression only, so that equal ones can be counted."""
    what, colon, expression = reason.partition(": ")
    functions = [name for name in dict.fromkeys(_FUNCTIONS.findall(expression)) if name not in _PLAIN_FUNCTIONS]
    return f"{what}{colon}{', '.join(functions) or _NAMES.sub('…', expression)}" if colon else reason


def _reasons(records: Iterable[TestRecord]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for record in records:
        queries = [query for query in record.queries if query.is_multi_row]
        reasons.update({_short(reason) for query in queries for reason in query.fallbacks})
    return reasons


def _count(part: Sequence[str], whole: Sequence[str]) -> tuple[str, int]:
    percent = f"{100 * len(part) / len(whole):.2f} %" if whole else "-"
    return f"{len(part)} ({percent})", len(whole)


def render(verdict: Verdict) -> str:
    """Return the report as text."""
    passed, wanted = _count(verdict.passed, verdict.baseline)
    spread, able = _count(verdict.distributed, verdict.multi_row)
    lines = [
        f"passed:      {passed} of the {wanted} tests that pass on Polars alone",
        f"distributed: {spread} of the {able} tests with a query over more rows than a split",
        f"excused: {len(verdict.excused)}   failed: {len(verdict.failed)}   stale exceptions: {len(verdict.stale)}",
        "",
        "why queries fell back to one task (tests):",
        *_table(verdict.fallbacks),
        "",
        "failures by error (tests):",
        *_table(Counter(_NAMES.sub("…", error) for error in verdict.failed.values())),
    ]
    lines += [f"FAILED {test} - {error}" for test, error in list(verdict.failed.items())[:_SHOWN]]
    if len(verdict.failed) > _SHOWN:
        lines.append(f"... and {len(verdict.failed) - _SHOWN} more")
    lines += [f"STALE {name}: no test of it fails any more; take it out of {EXCEPTIONS.name}" for name in verdict.stale]
    return "\n".join(lines)


def _table(counts: Mapping[str, int]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rows = [f"{count:6}  {text}" for text, count in ordered[:_LINES]]
    if len(ordered) > _LINES:
        rows.append(f"{sum(count for _, count in ordered[_LINES:]):6}  {len(ordered) - _LINES} others")
    return rows or ["     -"]
