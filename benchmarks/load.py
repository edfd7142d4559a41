"""Many clients at once: small queries over HTTP against `frazil serve`, its latencies, errors, and memory.

::

    python -m benchmarks.load [--clients 200] [--queries 2000] [--functions 2]
    python -m benchmarks.load --clients 20 --queries 10000      # is its memory flat?

A query is a POST, a long-poll and a GET of the result, which is compared with Polars' answer. Memory is the coordinator's
resident memory after every tenth of the queries, and without its functions.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import polars as pl

from benchmarks.processes import free_ports, program, run_process, wait_until_healthy

__all__ = ["Seen", "percentile"]

_MIB: Final = 1 << 20
_ROWS: Final = 1_000
_WAIT_S: Final = 30
_TENTHS: Final = 10


class _Status(msgspec.Struct):
    id: str
    state: str


@dataclass
class Seen:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each query, from its POST to the end of its result."""

    answers: Counter[int] = field(default_factory=Counter)
    """Answers by HTTP status."""

    wrong: int = 0
    """Queries whose result was not Polars'."""

    memory_bytes: list[int] = field(default_factory=list)


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return the value that such a share of all is not above."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


class _Load:
    """The clients of one coordinator."""

    def __init__(self, session: aiohttp.ClientSession, pid: int, queries: int, plan: bytes, expected: pl.DataFrame) -> None:
        self.seen = Seen()
        self._session = session
        self._pid = pid
        self._plan, self._expected = plan, expected
        self._left = iter(range(queries))
        self._every = max(1, queries // _TENTHS)

    async def client(self) -> None:
        """Ask for one query after the other, until there are no more."""
        for _ in self._left:
            began = time.perf_counter()
            await self._query()
            self.seen.seconds.append(time.perf_counter() - began)
            if len(self.seen.seconds) % self._every == 0:
                self.seen.memory_bytes.append(resident_bytes(self._pid))

    async def _query(self) -> None:
        body = await self._ask("POST", "/v1/queries", self._plan)
        if body is None:
            return
        status = msgspec.json.decode(body, type=_Status)
        while status.state not in ("succeeded", "failed", "cancelled"):
            body = await self._ask("GET", f"/v1/queries/{status.id}?wait_s={_WAIT_S}")
            if body is None:
                return
            status = msgspec.json.decode(body, type=_Status)
        result = await self._ask("GET", f"/v1/queries/{status.id}/result")
        self.seen.wrong += result is None or not pl.read_ipc_stream(io.BytesIO(result)).equals(self._expected)

    async def _ask(self, method: str, path: str, data: bytes | None = None) -> bytes | None:
        async with self._session.request(method, path, data=data) as answer:
            self.seen.answers[answer.status] += 1
            body = await answer.read()
            return body if answer.ok else None


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


async def _run(url: str, token: str, pid: int, options: argparse.Namespace, folder: Path) -> tuple[Seen, float]:
    file = folder / "rows.parquet"
    pl.select(k=pl.int_range(_ROWS) % 7, v=pl.int_range(_ROWS)).write_parquet(file)
    lf = pl.scan_parquet(file).group_by("k").agg(pl.col("v").sum()).sort("k")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
        load = _Load(session, pid, options.queries, lf.serialize(), lf.collect())
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(options.clients):
                group.create_task(load.client())
        return load.seen, time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--queries", type=int, default=2_000)
    parser.add_argument("--functions", type=int, default=2)
    options = parser.parse_args(arguments)
    token = secrets.token_urlsafe(16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (port,) = free_ports(1)
        url, log = f"http://127.0.0.1:{port}", folder / "coordinator.log"
        command = [program("frazil"), "serve", f"--port={port}", f"--store={folder / 'store'}"]
        command.append(f"--max-functions={options.functions}")
        with run_process(command, log=log, env={"FRAZIL_TOKEN": token}, grace_s=15.0) as process:
            wait_until_healthy(f"{url}/healthz", name="the coordinator", process=process, log=log)
            seen, seconds = asyncio.run(_run(url, token, process.pid, options, folder))
        print(_table(seen, seconds))
        faults = [line for line in log.read_text().splitlines() if "Traceback" in line or "ERROR" in line]
        print(f"\nlines of errors in its log: {len(faults)}", *faults[:5], sep="\n")


def _table(seen: Seen, seconds: float) -> str:
    rows = {
        "queries": f"{len(seen.seconds):,}",
        "queries a second": f"{len(seen.seconds) / seconds:.1f}",
        "p50, p95, p99 seconds": ", ".join(f"{percentile(seen.seconds, share):.2f}" for share in (0.5, 0.95, 0.99)),
        "answers by status": ", ".join(f"{status}: {count:,}" for status, count in sorted(seen.answers.items())),
        "wrong results": f"{seen.wrong}",
        "resident MiB after each tenth": ", ".join(f"{size / _MIB:.0f}" for size in seen.memory_bytes),
    }
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


if __name__ == "__main__":
    main()
