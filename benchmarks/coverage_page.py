"""Write docs/coverage.md: what is distributed and what runs in one task, as the parity tests see it.

Runs the tests of ``tests/parity``, which compare answers with Polars', and lists for each case whether its plan has a stage
of several tasks, and the reason where a part of it falls back to one::

    python -m benchmarks.coverage_page [--jobs 2]
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
            reasons |= dict.fromkeys(plan["fallbacks"])
        found[path, function, name] = (tasks, reasons)
    page: dict[str, dict[str, list[Case]]] = {}
    for (path, function, name), (tasks, reasons) in sorted(found.items()):
        if tasks > 1 or reasons:
            case = Case(name=name, tasks=tasks, fallbacks=tuple(reasons))
            page.setdefault(path, {}).setdefault(function, []).append(case)
    return page


def page_of(files: dict[str, dict[str, list[Case]]]) -> str:
    """Return the page, a table a file."""
    every = [case for tests in files.values() for cases in tests.values() for case in cases]
    counts = {verdict: sum(case.verdict == verdict for case in every) for verdict in ("distributed", "in part", "one task")}
    parts = [_HEAD, f"{len(every)} cases: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) + ".\n"]
    for path, tests in files.items():
        parts.append(
            f"\n## {Path(path).stem.removeprefix('test_').replace('_', ' ')}\n\n| case | runs | reason |\n|---|---|---|\n"
        )
        for function, cases in tests.items():
            for case in cases:
                name = function.removeprefix("test_").replace("_", " ") + ("" if case.name == "all" else f": {case.name}")
                parts.append(f"| {_cell(name)} | {case.verdict} | {_cell('; '.join(case.fallbacks))} |\n")
    return "".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests, and write the page when they pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
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
