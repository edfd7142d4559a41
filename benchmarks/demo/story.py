"""What the demonstration does, step by step; everything that it starts ends with it, by pid, whatever happens."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
from rich.progress import TaskID

import frazil
from benchmarks.demo.coordinator import CoordinatorProcess, run_coordinator
from benchmarks.demo.view import View, size
from benchmarks.figures import figures
from benchmarks.pdsh.compare import difference
from benchmarks.pdsh.data import data_files, generate, is_generated, open_store, upload
from benchmarks.pdsh.harness import Outcome, run_polars
from benchmarks.pdsh.queries import ORDERED, QUERIES
from benchmarks.pdsh.tables import TABLES, Tables
from benchmarks.seaweed import Seaweed, run_seaweed

__all__ = ["DemoError", "Options", "tell"]

QUESTIONS = {
    1: "pricing summary: one large table, grouped",
    3: "unshipped orders of the highest value: three tables joined, the ten best",
    18: "customers with large orders: a grouped table joined with three, sorted",
}
PARTS = 8
_BUCKET = "tpch"
_MIB = 1024 * 1024
_IDLE_S = 3.0
_ZERO_TIMEOUT_S = 60.0
_POLL_S = 0.2


class DemoError(Exception):
    """The demonstration showed something that should not be; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose."""

    scale: float
    """Scale factor of TPC-H."""

    folder: Path
    """Where data and logs are kept."""

    max_functions: int


def tell(options: Options, view: View) -> bool:
    """Run the demonstration.

    Returns
    -------
    bool
        Whether every answer equals that of single-node Polars.

    Raises
    ------
    DataError, ProcessError, DemoError, FrazilError
        When something needed is missing or does not work.
    """
    view.title(f"Frazil: TPC-H at scale factor {options.scale:g}, by functions that start from zero")
    data = options.folder / f"sf{options.scale:g}-{PARTS}"
    _make_data(data, options, view)
    here = Tables.scan(str(data), scale_factor=options.scale)
    with _services(options, view) as (server, coordinator):
        _upload(data, server, view)
        there = Tables.scan(f"s3://{_BUCKET}/data", scale_factor=options.scale, storage_options=server.storage_options)
        settings = _settings(options.scale)
        with frazil.connect(coordinator.url, token=coordinator.token, settings=settings, timeout_s=15.0) as engine:
            answers = [_ask(number, engine, there, here, coordinator, view) for number in QUESTIONS]
        view.heading("Afterwards")
        _show_empty_exchange(server, view)
        _show_zero(coordinator, view)
    view.step("cleaned up", f"nothing runs any more; data and logs stay in {options.folder}")
    view.heading("In short")
    view.summary(answers)
    return all(answer.difference is None for answer in answers)


def _make_data(data: Path, options: Options, view: View) -> None:
    cached, began = is_generated(data), time.perf_counter()
    if not cached:
        view.step("data", f"generating scale factor {options.scale:g} with tpchgen-cli ...")
    generate(data, scale_factor=options.scale, parts=PARTS)
    files = data_files(data)
    how = "there from before" if cached else f"made in {time.perf_counter() - began:.1f} s"
    total = sum(path.stat().st_size for path in files)
    view.step("data", f"{len(TABLES)} tables, {len(files)} Parquet files, {size(total)} in {data}, {how}")


@contextlib.contextmanager
def _services(options: Options, view: View) -> Iterator[tuple[Seaweed, CoordinatorProcess]]:
    logs = options.folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="store-", dir=options.folder)))
        secret, log = secrets.token_hex(16), logs / "seaweedfs.log"
        server = stack.enter_context(run_seaweed(scratch, access_key="demo", secret_key=secret, buckets=[_BUCKET], log=log))
        view.step("store", f"SeaweedFS at {server.endpoint}, pid {server.pid}")
        coordinator = stack.enter_context(
            run_coordinator(
                f"s3://{_BUCKET}/exchange",
                server,
                max_functions=options.max_functions,
                idle_s=_IDLE_S,
                log=logs / "coordinator.log",
            )
        )
        running = coordinator.functions()
        view.step("coordinator", f"frazil serve at {coordinator.url}, pid {coordinator.pid}, {running} functions")
        yield server, coordinator


def _upload(data: Path, server: Seaweed, view: View) -> None:
    began, total = time.perf_counter(), sum(path.stat().st_size for path in data_files(data))
    with view.upload(total) as progress:
        upload(
            data,
            f"s3://{_BUCKET}/data",
            storage_options=server.storage_options,
            on_file=lambda count: progress.advance(TaskID(0), count),
        )
    view.step("uploaded", f"{size(total)} to s3://{_BUCKET}/data in {time.perf_counter() - began:.1f} s")


def _settings(scale: float) -> frazil.Settings:
    """Return settings that cut this small data as a large one is: many splits, joins that shuffle."""
    return frazil.Settings(
        start_small=False,
        split_target_bytes=max(64 * 1024, int(4 * _MIB * scale)),
        shuffle_target_bytes=max(64 * 1024, int(4 * _MIB * scale)),
        broadcast_limit_bytes=int(_MIB * scale),
    )


def _ask(
    number: int, engine: frazil.Engine, there: Tables, here: Tables, coordinator: CoordinatorProcess, view: View
) -> Outcome:
    """Run one query, show everything about it, and compare its answer."""
    view.heading(f"PDS-H Q{number}: {QUESTIONS[number]}")
    lf = QUERIES[number](there)
    view.text(engine.explain(lf))
    view.text(f"functions before it: {coordinator.functions()}")
    began = time.perf_counter()
    query = engine.submit(lf, labels=[f"demo-q{number}"])
    try:
        view.follow(query.events())
        answer = query.result()
    except BaseException:
        query.cancel()
        raise
    seconds = time.perf_counter() - began
    view.result(answer)
    used = figures(query.profile())
    view.stages(used)
    view.cost(used)
    expected, polars_seconds = run_polars(number, here)
    outcome = Outcome(
        number=number,
        figures=used,
        seconds=seconds,
        polars_seconds=polars_seconds,
        difference=difference(answer, expected, order=ORDERED[number]),
    )
    view.verdict(outcome)
    return outcome


def _show_empty_exchange(server: Seaweed, view: View) -> None:
    store = open_store(f"s3://{_BUCKET}", server.storage_options)
    left = sum(len(batch) for batch in obstore.list(store, prefix="exchange"))
    if left:
        raise DemoError(f"{left} objects are left in s3://{_BUCKET}/exchange")
    view.step("exchange", f"s3://{_BUCKET}/exchange is empty again")


def _show_zero(coordinator: CoordinatorProcess, view: View) -> None:
    """Wait until all functions have gone, showing each change of their number."""
    began, shown = time.perf_counter(), -1
    while (running := coordinator.functions()) or shown:
        if running != shown:
            view.step("functions", f"{running} after {time.perf_counter() - began:.1f} s without work")
            shown = running
        if time.perf_counter() - began > _ZERO_TIMEOUT_S:
            raise DemoError(f"{running} functions are still there after {_ZERO_TIMEOUT_S:.0f} s without work")
        if running:
            time.sleep(_POLL_S)
