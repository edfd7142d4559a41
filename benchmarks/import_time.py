"""What a function process costs to start: CPU seconds of its imports against those of polars alone.

``python -m benchmarks.import_time [--runs N] [--gate RATIO] [--json FILE]``. Each run is a fresh interpreter; the two are
interleaved, so that a busy machine slows both. CPU seconds (user and system) rather than wall time, because a cold pod has a
share of a core. Bytecode is compiled beforehand, as it is in the image, in a folder of its own: whatever
PYTHONDONTWRITEBYTECODE says here. With ``--gate`` the exit code is 1 when the ratio of the medians is above it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.record import write_record

POLARS: Final = "import polars"
FUNCTION: Final = "from frazil_functions.__main__ import load; load(); import uvloop, uvicorn.protocols.http.httptools_impl"
"""Everything that is imported when a function process answers its first request."""


def cpu_seconds(statement: str, bytecode: Path) -> float:
    """Return the CPU seconds that a fresh interpreter takes to run `statement`, with its bytecode in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(statements: Sequence[str], runs: int, bytecode: Path) -> list[float]:
    """Return the median CPU seconds of each statement, measured in turns."""
    for statement in statements:
        cpu_seconds(statement, bytecode)  # compiles the bytecode, warms the page cache
    taken: dict[str, list[float]] = {statement: [] for statement in statements}
    for _ in range(runs):
        for statement in statements:
            taken[statement].append(cpu_seconds(statement, bytecode))
    return [statistics.median(taken[statement]) for statement in statements]


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=11, help="interpreters of each kind")
    parser.add_argument("--gate", type=float, default=None, help="highest ratio that passes")
    parser.add_argument("--json", type=Path, help="file that gets the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        polars_s, function_s = medians((POLARS, FUNCTION), options.runs, Path(folder))
    ratio = function_s / polars_s
    print(f"import polars          {polars_s * 1000:7.1f} ms CPU (median of {options.runs})")
    print(f"import function image  {function_s * 1000:7.1f} ms CPU")
    print(f"ratio                  {ratio:7.2f}")
    if options.json is not None:
        write_record(options.json, "import_time", {"runs": options.runs, "polars_s": polars_s, "function_s": function_s})
    if options.gate is not None and ratio > options.gate:
        print(f"the ratio is above {options.gate}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
