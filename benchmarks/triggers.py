"""How long an object takes from its arrival to the output of a trigger that everybody can read.

    python -m benchmarks.triggers [--arrivals 40] [--cold 10] [--burst 1000] [--store folder|seaweed]

A coordinator (``frazil serve``, with its journal) runs with two functions of this machine. A Parquet file of 200 rows is
written, its store's notification is sent when the write has returned, and the clock runs until the output is visible under
its name. *Warm*: a function waits. *From zero*: all functions have been stopped since the last arrival. *Burst*: so many
objects in random order, each told of 0 to 3 times, and a listing at the end; each row must be in the output once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import obstore
import polars as pl
from obstore.store import LocalStore, ObjectStore, S3Store

from benchmarks.processes import free_ports, run_process, wait_until_healthy
from benchmarks.seaweed import run_seaweed
from frazil._serialize import serialize

_TOKEN: Final = "benchmark"
_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where objects, outputs and the exchange are."""

    root: str
    """Path or URL, without a slash at its end."""

    store: ObjectStore
    bucket: str
    options: dict[str, str] = field(default_factory=dict)

    def notification(self, key: str) -> dict[str, object]:
        """Return what the store's notification says."""
        if not self.bucket:
            return {"specversion": "1.0", "id": key, "source": "/b", "type": "dev.frazil.object.created.v1",
                    "data": {"url": f"{self.root}/{key}"}}  # fmt: skip
        entry = {"bucket": {"name": self.bucket}, "object": {"key": key}}
        return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entry}]}


@contextlib.contextmanager
def place(kind: str, folder: Path) -> Iterator[Place]:
    """Give a folder, or a bucket of a SeaweedFS of its own."""
    if kind == "folder":
        (folder / "data" / "in").mkdir(parents=True)
        yield Place(root=str(folder / "data"), store=LocalStore(folder / "data"), bucket="")
        return
    with run_seaweed(folder / "weed", access_key="benchmark", secret_key="benchmark-secret", buckets=["lake"]) as server:
        store = S3Store(
            "lake",
            endpoint=server.endpoint,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        yield Place(root="s3://lake", store=store, bucket="lake", options=server.storage_options)


@contextlib.contextmanager
def coordinator(at: Place, folder: Path, idle_s: float) -> Iterator[httpx.Client]:
    """Run ``frazil serve``."""
    (port,) = free_ports(1)
    command = [str(Path(sys.executable).parent / "frazil"), "serve", "--port", str(port), "--token", _TOKEN]
    command += ["--max-functions", "2", "--idle-s", str(idle_s)]
    command += ["--store", f"{at.root}/exchange" if at.bucket else str(folder / "exchange")]
    command += [part for name, value in at.options.items() for part in ("--store-option", f"{name}={value}")]
    env = {"FRAZIL_JOURNAL_KEYS": "a secret of thirty-two characters"}
    log = folder / f"coordinator-{port}.log"
    with run_process(command, log=log, env=env) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(f"{url}/readyz", name="the coordinator", process=process, log=log)
        with httpx.Client(base_url=url, headers={"authorization": f"Bearer {_TOKEN}"}, timeout=60.0) as http:
            yield http


def arrivals(at: Place, http: httpx.Client, name: str, count: int, before: Callable[[], None]) -> list[float]:
    """Return the seconds of each arrival."""
    query = pl.scan_parquet(f"{at.root}/in/{name}/*.parquet", storage_options=at.options or None)
    query = query.filter(pl.col("v") >= 0).with_columns(w=pl.col("v") * 2)
    body = {
        "source": f"{at.root}/in/{name}/",
        "plan": b64encode(serialize(query, max_plan_bytes=10**7)).decode(),
        "sink": f"{at.root}/out/{name}/",
        "list_every_s": 86_400.0,
    }
    http.put(f"/v1/triggers/{name}", json=body).raise_for_status()
    seconds = list[float]()
    for number in range(count + 2):
        before()
        data = io.BytesIO()
        pl.select(v=pl.int_range(_ROWS, dtype=pl.Int64) + number).write_parquet(data)
        key = f"in/{name}/{number:05d}.parquet"
        obstore.put(at.store, key, data.getvalue())
        began = time.perf_counter()
        path = "/ingest/s3" if at.bucket else "/"
        kind = "application/json" if at.bucket else "application/cloudevents+json"
        http.post(path, json=at.notification(key), headers={"content-type": kind}).raise_for_status()
        while _outputs(at, name) <= number:
            time.sleep(0.002)
            if time.perf_counter() - began > 60.0:
                raise TimeoutError(http.get(f"/v1/triggers/{name}").text)
        seconds.append(time.perf_counter() - began)
    return seconds[2:]  # the first ones warm up


def burst(at: Place, http: httpx.Client, count: int) -> tuple[float, int]:
    """Return the seconds until all objects of a burst are in the output, and the windows that it took.

    Raises
    ------
    AssertionError
        When an object is not in the output exactly once.
    """
    chance = random.Random(1)
    query = pl.scan_parquet(f"{at.root}/in/burst/*.parquet", storage_options=at.options or None, schema={"v": pl.Int64})
    body = {
        "source": f"{at.root}/in/burst/",
        "plan": b64encode(serialize(query, max_plan_bytes=10**7)).decode(),
        "sink": f"{at.root}/out/burst/",
        "list_every_s": 86_400.0,
    }
    http.put("/v1/triggers/burst", json=body).raise_for_status()
    numbers = list(range(count))
    chance.shuffle(numbers)
    began = time.perf_counter()
    for number in numbers:
        data = io.BytesIO()
        pl.DataFrame({"v": [number]}).write_parquet(data)
        key = f"in/burst/{number:06d}.parquet"
        obstore.put(at.store, key, data.getvalue())
        for _ in range(chance.randint(0, 3)):
            path, kind = ("/ingest/s3", "json") if at.bucket else ("/", "cloudevents+json")
            http.post(path, json=at.notification(key), headers={"content-type": f"application/{kind}"}).raise_for_status()
    http.post("/v1/triggers/burst/run").raise_for_status()
    while (status := http.get("/v1/triggers/burst").json()["status"])["objects"] < count:
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    found = pl.scan_parquet(f"{at.root}/out/burst/*.parquet", storage_options=at.options or None).collect()
    if sorted(found["v"]) != list(range(count)):
        raise AssertionError(f"{found.height} rows of {count} objects, {found['v'].n_unique()} different ones")
    return seconds, status["windows"]


def _outputs(at: Place, name: str) -> int:
    return sum(meta["size"] > 0 for batch in obstore.list(at.store, f"out/{name}") for meta in batch)


def _without_functions(http: httpx.Client) -> None:
    while http.get("/readyz").json()["functions"]:
        time.sleep(0.02)


def _row(what: str, seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return f"| {what} | {len(seconds)} | {statistics.median(seconds):.3f} | {cuts[-1]:.3f} | {max(seconds):.3f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arrivals", type=int, default=40)
    parser.add_argument("--cold", type=int, default=10)
    parser.add_argument("--burst", type=int, default=0)
    parser.add_argument("--store", choices=["folder", "seaweed"], default="folder")
    given = parser.parse_args()
    print(f"store: {given.store}\n\n| functions | arrivals | p50 s | p95 s | most s |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with place(given.store, folder) as at:
            with coordinator(at, folder, 300.0) as http:
                print(_row("warm", arrivals(at, http, "warm", given.arrivals, lambda: None)), flush=True)
                told = burst(at, http, given.burst) if given.burst else None
            with coordinator(at, folder, 0.05) as http:
                print(
                    _row("from zero", arrivals(at, http, "cold", given.cold, lambda: _without_functions(http))), flush=True
                )
    if told is not None:
        print(f"\nburst: {given.burst:,} objects in {told[0]:.1f} s, {told[1]} windows, each in the output once")


if __name__ == "__main__":
    main()
