"""The command ``python -m benchmarks.demo``.

Exit codes: 0 all answers equal, 1 an answer differs, 2 something needed is missing or failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from types import FrameType

from benchmarks.demo.story import DemoError, Options, tell
from benchmarks.demo.view import View
from benchmarks.pdsh.data import DataError
from benchmarks.processes import ProcessError
from frazil import FrazilError

__all__ = ["main"]

_ERROR_CHARACTERS = 400
_DIFFERENT, _FAILED, _INTERRUPTED = 1, 2, 130


def _arguments(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo",
        description="TPC-H on a real S3 server, by functions that start from zero, checked against Polars.",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="scale factor: 1 is 1 GB as text, 350 MB as Parquet")
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="keeps data and logs (default .demo)")
    parser.add_argument("--max-functions", type=int, default=2, help="function processes at once (default 2)")
    chosen = parser.parse_args(argv)
    if chosen.scale <= 0 or chosen.max_functions < 1:
        parser.error("--scale must be above 0, and --max-functions at least 1")
    return Options(scale=chosen.scale, folder=chosen.folder, max_functions=chosen.max_functions)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End by unwinding, and let nothing disturb the clean-up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration and return the exit code."""
    options = _arguments(argv)
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    view = View()
    try:
        return 0 if tell(options, view) else _DIFFERENT
    except (DataError, DemoError, FrazilError, OSError, ProcessError) as error:
        reason = shorten(str(error), _ERROR_CHARACTERS, placeholder=" ...")
        view.error(f"{reason} (logs: {options.folder / 'logs'})")
        return _FAILED
    except KeyboardInterrupt:
        view.error("interrupted; everything that was started has ended")
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
