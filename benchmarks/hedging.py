"""What second requests beside slow ones are worth: tasks of many reads against a store whose answers are slow now and then.

``python -m benchmarks.hedging [--tasks N] [--reads N] [--slow SHARE]``. The store is simulated: its answers take 27 ms in
the median and 106 ms at the 99th percentile (log-normal, as S3's GETs of small ranges), and a share of them `--slow-s`
seconds. Every task makes its reads 8 at a time, as a task does, and is over with the last of them; each is run with and
without hedging, in turns, on the same draws.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from benchmarks.simulated.memory_store import MemoryStore
from frazil_functions.storage import Store
from frazil_functions.storage_hedged import Hedging

MEDIAN_S: Final = 0.027
P99_S: Final = 0.106
_SIGMA: Final = math.log(P99_S / MEDIAN_S) / statistics.NormalDist().inv_cdf(0.99)
_AT_ONCE: Final = 8
_WARM_UP: Final = 8


class DrawnStore(MemoryStore):
    """A store whose reads take drawn times."""

    remote = True

    def __init__(self, seed: int, slow: float, slow_s: float) -> None:
        super().__init__()
        self._random = random.Random(seed)  # nothing secret
        self._slow = slow
        self._slow_s = slow_s
        self.asked = 0
        """Reads so far."""

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return a range after a while."""
        self.asked += 1
        slow = self._random.random() < self._slow
        time.sleep(self._slow_s if slow else self._random.lognormvariate(math.log(MEDIAN_S), _SIGMA))
        return super().get_range(key, start, length)


def task_seconds(store: Store, reads: int, pool: ThreadPoolExecutor) -> float:
    """Return the seconds until the last of so many reads is answered."""
    began = time.perf_counter()
    for _ in pool.map(lambda _: store.get_range("x", 0, 1), range(reads)):
        pass
    return time.perf_counter() - began


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=120, help="tasks of each kind")
    parser.add_argument("--reads", type=int, default=64, help="reads a task")
    parser.add_argument("--slow", type=float, default=0.004, help="share of reads that are slow")
    parser.add_argument("--slow-s", type=float, default=2.0, help="seconds that a slow read takes")
    options = parser.parse_args()
    plain, behind = (DrawnStore(1, options.slow, options.slow_s) for _ in range(2))
    for store in (plain, behind):
        store.put("x", [b"x"])
    hedged = Hedging().over(behind)
    seconds: dict[str, list[float]] = {"once": [], "hedged": []}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for number in range(options.tasks + _WARM_UP):
            once, twice = task_seconds(plain, options.reads, pool), task_seconds(hedged, options.reads, pool)
            if number >= _WARM_UP:
                seconds["once"].append(once)
                seconds["hedged"].append(twice)
    for name, taken in seconds.items():
        cuts = statistics.quantiles(taken, n=20)
        line = f"{name:8} mean {statistics.mean(taken):5.2f} s   median {statistics.median(taken):5.2f} s"
        print(f"{line}   p95 {cuts[-1]:5.2f} s   longest {max(taken):5.2f} s")
    ratio = sum(seconds["hedged"]) / sum(seconds["once"])
    print(f"ratio of the means {ratio:.2f}; second requests {hedged.hedges / behind.asked:.2%} of all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
