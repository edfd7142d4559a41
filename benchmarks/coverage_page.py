"""Write docs/coverage.md: what is distributed and what runs in one task, as the parity tests see it.

Runs the tests of ``tests/parity``, which compare answers with Polars', and lists for each case whether its plan has a stage
of several tasks, and the reason where a part of it falls back to one::

    python -m benchmarks.coverage_page [--jobs 2]
    FRAZIL_COVERAGE_FILE=plans.jsonl make test && python -m benchmarks.coverage_page --records plans.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_PAGE: Final = _ROOT / "docs" / "coverage.md"
_VARIANTS: Final = re.compile(
    r"^(hash|broadcast|folder|seaweed|local|remote)-|-(hash|broadcast|folder|seaweed|local|remote)$"
)
_PATHS: Final = re.compile(r"(?<![\w:/])(?:file://)?/[\w.\-]+(?:/[\w.\-]+)+")
_HEAD: Final = """# Coverage: what is distributed

Written by `python -m benchmarks.coverage_page` from the parity tests, each of which compares an answer with single-node
Polars on tiny splits. *Distributed*: some stage has several tasks, and nothing falls back. *In part*: some stage has several
tasks, but a step runs in one, for the reason given. *One task*: all of it. A case that needs one task anyway is not listed.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case of one test, over all of its variants."""

    name: str
    tasks: int
    fallbacks: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """How it runs, in words."""
        if not self.fallbacks:
            return "distributed"
        return "in part" if self.tasks > 1 else "one task"


def cases_of(lines: Iterable[str]) -> dict[str, dict[str, list[Case]]]:
    """Return file → test → cases, from what the tests recorded."""
    found: dict[tuple[str, str, str], tuple[int, dict[str, None]]] = {}
    for line in lines:
        record = json.loads(line)
        path, _, test = record["test"].partition("::")
        function, _, variant = test.partition("[")
        name = _VARIANTS.sub("", variant.removesuffix("]")) or "all"
        tasks, reasons = found.get((path, function, name), (0, {}))
        for plan in record["plans"]:
            tasks = max(tasks, plan["tasks"])
            reasons |= dict.fromkeys(map(_reason, plan["fallbacks"]))
        found[path, function, name] = (tasks, reasons)
    page: dict[str, dict[str, list[Case]]] = {}
    for (path, function, name), (tasks, reasons) in sorted(found.items()):
        if tasks > 1 or reasons:
            case = Case(name=name, tasks=tasks, fallbacks=tuple(reasons))
            page.setdefault(path, {}).setdefault(function, []).append(case)
    return page


def page_of(files: dict[str, dict[str, list[Case]]]) -> str:
    """Return the page: first what falls back, with the reason, then what is distributed."""
    every = [case for tests in files.values() for cases in tests.values() for case in cases]
    counts = {verdict: sum(case.verdict == verdict for case in every) for verdict in ("distributed", "in part", "one task")}
    parts = [_HEAD, f"{len(every)} cases: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".\n"]
    parts.append("\n## Not distributed, or in part\n\n| tests of | case | runs | reason |\n|---|---|---|---|\n")
    for path, tests in files.items():
        for function, cases in tests.items():
            for case in cases:
                if case.fallbacks:
                    cells = [_title(path), _named(function, case), case.verdict, "; ".join(case.fallbacks)]
                    parts.append(f"| {' | '.join(map(_cell, cells))} |\n")
    parts.append("\n## Distributed\n")
    for path, tests in files.items():
        parts.append(f"\n### {_title(path)}\n\n")
        for function, cases in tests.items():
            names = [case.name for case in cases if not case.fallbacks]
            if names == ["all"]:
                parts.append(f"* {_words(function)}\n")
            elif names:
                parts.append(f"* {_words(function)}: {_cell(' · '.join(names))}\n")
    return "".join(parts)


def _title(path: str) -> str:
    return Path(path).stem.removeprefix("test_").replace("_", " ")


def _words(function: str) -> str:
    return function.removeprefix("test_").replace("_", " ")


def _named(function: str, case: Case) -> str:
    return _words(function) + ("" if case.name == "all" else f": {case.name}")


def _reason(text: str) -> str:
    """Return a reason without the names of one run's files."""
    return _PATHS.sub("…", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests, and write the page when they pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--records", type=Path, help="what an earlier run of the tests has recorded")
    options = parser.parse_args(arguments)
    if options.records is not None:
        _PAGE.write_text(page_of(cases_of(options.records.read_text().splitlines())))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "plans.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-n", str(options.jobs), "--dist", "loadfile"]
        status = subprocess.run(
            [*command, "tests/parity"], cwd=_ROOT, env={**os.environ, "FRAZIL_COVERAGE_FILE": str(record)}, check=False
        ).returncode
        if status:
            return status
        _PAGE.write_text(page_of(cases_of(record.read_text().splitlines())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
