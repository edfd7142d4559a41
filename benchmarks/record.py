"""What a benchmark leaves behind: its figures as JSON, with the commit they were taken at and the date."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

__all__ = ["commit", "write_record"]


def commit() -> str:
    """Return the commit of the working tree, ``-dirty`` behind it when files differ from it; or ``unknown``."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return done.stdout.strip() or "unknown"


def write_record(path: Path, benchmark: str, figures: Mapping[str, object]) -> None:
    """Write the figures of a run.

    Parameters
    ----------
    path
        File that is written anew.
    benchmark
        Name of the module below ``benchmarks``.
    figures
        What was found and with which options; whatever JSON holds.
    """
    found = {
        "benchmark": benchmark,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        **figures,
    }
    path.write_text(json.dumps(found, indent=1) + "\n")
