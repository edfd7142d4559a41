"""Fuzz the plans that a coordinator takes from strangers.

::

    python -m benchmarks.fuzz [--mutations 100000] [--seed 1] [--workers 2] [--first 0]

Each worker is a process of its own with limited memory: one that dies, or does not come to an end with a plan, is a finding,
and another one goes on behind it. A finding is printed with its number; `--first NUMBER --mutations 1` does it again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.fuzz.judge import judged
from benchmarks.fuzz.mutate import Yard, corpus, mutated
from benchmarks.fuzz.watch import OpenWatch

_MEMORY_BYTES: Final = 6 << 30
_PATIENCE_S: Final = 60.0
"""Seconds for one plan, on a machine that has other work too."""

_LEAP_BYTES: Final = 1 << 30
"""Memory that one plan may add to a process."""


@dataclass(slots=True)
class Findings:
    """What came of all mutations."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)


def work(numbers: range, seed: int, out: multiprocessing.connection.Connection) -> None:
    """Judge mutations, and send a line for each: before it (its number), and after it (what became of it)."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        yard = Yard.made(Path(folder))
        plans = corpus(yard)
        watch = OpenWatch(yard.outside)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # polars tells of its panics
        for number in numbers:
            out.send((number, None, ""))
            before = _most_bytes()
            verdict = judged(mutated(plans, yard, f"{seed}/{number}"), yard)
            fault = verdict.fault
            if opened := watch.opened():
                fault = f"opened outside of the allowed folder: {opened}"
            elif _most_bytes() - before > _LEAP_BYTES:
                fault = fault or f"it took {(_most_bytes() - before) >> 20} MiB"
            out.send((number, verdict.outcome, fault))
    out.close()


def _most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class _Worker:
    """A process with its share of the numbers."""

    def __init__(self, numbers: range, seed: int, findings: Findings) -> None:
        self._left, self._seed, self._findings = numbers, seed, findings
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self.results, out = self._context.Pipe(duplex=False)
        self._process = self._context.Process(target=work, args=(self._left, self._seed, out))
        self._process.start()
        out.close()
        self._at: int | None = None
        self._since = time.monotonic()

    def take(self) -> None:
        """Take what the process says; raises `EOFError` when it has ended."""
        number, outcome, fault = self.results.recv()
        self._at, self._since = (number, time.monotonic()) if outcome is None else (None, time.monotonic())
        if outcome is not None:
            self._findings.outcomes[outcome] += 1
            if fault:
                self._find(number, fault)

    def is_stuck(self) -> bool:
        """Return whether a plan takes for ever."""
        return self._at is not None and time.monotonic() - self._since > _PATIENCE_S

    def next(self) -> bool:
        """Go on behind the plan that ended the process; return whether there is more to do."""
        stuck = self.is_stuck()
        if stuck:
            self._process.kill()
        self._process.join()
        if self._at is None and self._process.exitcode:
            raise RuntimeError("a worker failed; it says why on standard error")
        if self._at is None:
            return False
        what = f"it took more than {_PATIENCE_S:.0f} s" if stuck else f"it ended the process ({self._process.exitcode})"
        self._find(self._at, what)
        self._left = range(self._at + 1, self._left.stop)
        if not self._left:
            return False
        self._start()
        return True

    def _find(self, number: int, fault: str) -> None:
        self._findings.faults.append((number, fault))
        print(f"{number}: {fault[:300]}", flush=True)


def fuzz(first: int, count: int, seed: int, workers: int) -> Findings:
    """Judge so many mutations.

    Parameters
    ----------
    first, count
        Their numbers.
    seed
        What they follow from, with the number.
    workers
        Processes.
    """
    findings = Findings()
    share = -(-count // workers)
    shares = [range(start, min(start + share, first + count)) for start in range(first, first + count, share)]
    running = [_Worker(numbers, seed, findings) for numbers in shares]
    while running:
        ready = multiprocessing.connection.wait([one.results for one in running], timeout=1.0)
        for worker in list(running):
            try:
                if worker.results in ready:
                    worker.take()
                elif worker.is_stuck() and not worker.next():
                    running.remove(worker)
            except EOFError:
                if not worker.next():
                    running.remove(worker)
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and print what was found; 1 when something was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args(arguments)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    print(f"seed {options.seed}, mutations {options.first} to {options.first + options.mutations - 1}", flush=True)
    findings = fuzz(options.first, options.mutations, options.seed, options.workers)
    for outcome, count in findings.outcomes.most_common():
        print(f"{count:,} {outcome}")
    print(f"{len(findings.faults)} findings")
    return 1 if findings.faults else 0
