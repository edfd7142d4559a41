"""From nothing to the first answer of a function process, and where the milliseconds go.

::

    python -m benchmarks.cold_start [--runs 15]

Each run starts fresh interpreters, by turns: one that does nothing, one that imports Polars, one that imports all that a
function does, and a function process itself, which is sent two tasks as soon as it listens. Bytecode is compiled beforehand,
as it is in the image. Figures are medians of wall time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import polars as pl

from benchmarks.import_time import FUNCTION, POLARS
from benchmarks.processes import free_ports
from frazil_coordinator.platform.transport import FunctionTransport
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.task import Output, Succeeded, TaskRequest

__all__ = ["main"]

_KEY: Final = "a key of the benchmark"
_MS: Final = 1000.0
_PAUSE_S: Final = 0.001


def _imports_s(statement: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def _request(task: int) -> TaskRequest:
    fragment = pl.LazyFrame({"k": [1, 2, 1], "v": [1.0, 2.0, 3.0]}).group_by("k").agg(pl.col("v").sum()).serialize()
    return TaskRequest(
        query=QueryId("cold"),
        stage=StageId(0),
        task=TaskIndex(task),
        attempt=0,
        fragment=fragment,
        inputs=(),
        output=Output(kind="single"),
        polars_version=pl.__version__,
        protocol_version=PROTOCOL_VERSION,
    )


async def _answer(transport: FunctionTransport, url: str, task: int) -> None:
    async with contextlib.aclosing(transport.send(url, _request(task))) as events:
        last = None
        async for event in events:
            last = event
    if not isinstance(last, Succeeded):
        raise RuntimeError(f"the task gave {last}")


async def _function_s(folder: str) -> tuple[float, float, float]:
    """Return the seconds until a function listens, until it has answered its first task, and for the second one."""
    (port,) = free_ports(1)
    environment = {**os.environ, "FRAZIL_TASK_KEYS": _KEY, "FRAZIL_STORE_URL": folder, "PORT": str(port)}
    environment |= {"FRAZIL_FUNCTION_HOST": "127.0.0.1", "FRAZIL_LOG_LEVEL": "error"}
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "frazil_functions", env=environment)
    transport = FunctionTransport([_KEY], source="/frazil/benchmark")
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            if process.returncode is not None:
                raise RuntimeError(f"the function ended with {process.returncode}")
            await asyncio.sleep(_PAUSE_S)
        listening = time.perf_counter()
        await _answer(transport, f"http://127.0.0.1:{port}/", 0)
        first = time.perf_counter()
        await _answer(transport, f"http://127.0.0.1:{port}/", 1)
        return listening - began, first - began, time.perf_counter() - first
    finally:
        await transport.aclose()
        process.terminate()
        await process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs: int = parser.parse_args(argv).runs
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="frazil-cold-") as name:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(name) / "bytecode")
        for run in range(runs + 1):  # the first one compiles
            listening, first, second = asyncio.run(_function_s(name))
            found = {
                "an interpreter that does nothing": _imports_s("pass"),
                "… and imports Polars": _imports_s(POLARS),
                "… and all that a function imports": _imports_s(FUNCTION),
                "a function listens": listening,
                "its first task is answered": first,
                "the next one takes": second,
            }
            for label, seconds in found.items() if run else ():
                seen.setdefault(label, []).append(seconds * _MS)
    print(f"medians of {runs} runs by turns\n\n| | ms |\n|---|---:|")
    for label, times in seen.items():
        print(f"| {label} | {median(times):.0f} |")


if __name__ == "__main__":
    main()
