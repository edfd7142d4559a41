"""Running one task: rows in, rows out, what is counted, and that a failed or cancelled one leaves nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.arena import Arena
from frazil_functions.errors import (
    BlockError,
    CancelledQueryError,
    DeadlineError,
    FrazilError,
    OutOfMemoryError,
    PlanError,
    QueryError,
    SourceError,
    StorageFullError,
)
from frazil_functions.run import CancelToken, TaskRun, run_task
from frazil_functions.scan_files import stat_file
from frazil_functions.sealed import seal_fragment
from frazil_functions.storage import FolderStore
from frazil_functions.task import ExchangeInput, Output, ScanInput, SinkOutput, Split, TaskLimits
from support.functions import exchange_of, placeholder, rows_of, task, whole_file

FRAME = pl.DataFrame({"a": range(100), "b": [str(i % 7) for i in range(100)]})
INLINE = Output(kind="single")


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path)
    return path


def left_behind(store: FolderStore) -> list[str]:
    return [info.key for info in store.list("")]


def test_a_scan_becomes_an_exchange_object_and_then_an_input(store: FolderStore, file: Path) -> None:
    written = run_task(task(placeholder(FRAME.schema).filter(pl.col("a") >= 10), whole_file(file, 100)), store=store)
    assert_frame_equal(rows_of(store, written), FRAME.tail(90))
    total = placeholder(FRAME.schema).select(pl.col("a").sum())
    summed = run_task(task(total, exchange_of(written), output=INLINE), store=store)
    assert summed.key is None
    assert rows_of(store, summed).item() == sum(range(10, 100))


def test_the_key_is_the_prefix_the_attempt_and_something_that_is_new_each_time(store: FolderStore, file: Path) -> None:
    request = task(placeholder(FRAME.schema), whole_file(file, 100), attempt=3)
    keys = {run_task(request, store=store).key for _ in range(2)}
    assert sorted(left_behind(store)) == sorted(key for key in keys if key)
    assert all(key and key.startswith("ab/q/2/5/3-") and len(key) == len("ab/q/2/5/3-") + 32 for key in keys)
    assert len(keys) == 2


def test_what_it_used_is_counted(store: FolderStore, file: Path) -> None:
    scan = run_task(task(placeholder(FRAME.schema).head(40), whole_file(file, 100)), store=store)
    assert (scan.stats.rows_in, scan.stats.rows_out) == (100, 40)
    assert scan.stats.requests == {"put": 1}
    assert scan.stats.bytes_out == sum(info.size for info in store.list(""))
    read = run_task(task(placeholder(FRAME.schema), exchange_of(scan), output=INLINE), store=store)
    assert (read.stats.rows_in, read.stats.rows_out) == (40, 40)
    assert read.stats.requests == {"get": 1}
    assert read.stats.bytes_in == sum(block.length for block in scan.blocks)
    assert read.stats.seconds > 0
    assert read.stats.peak_memory_bytes > 10_000_000


def test_a_fragment_that_yields_nothing_writes_nothing(store: FolderStore, file: Path) -> None:
    written = run_task(task(placeholder(FRAME.schema).filter(pl.col("a") < 0), whole_file(file, 100)), store=store)
    assert (written.key, written.blocks, written.inline) == (None, (), None)
    assert left_behind(store) == []


def test_a_large_fragment_is_read_from_the_store(store: FolderStore, file: Path) -> None:
    sealed, secret = seal_fragment(placeholder(FRAME.schema).serialize())
    store.put("ab/q/fragment", [sealed])
    request = task(b"", whole_file(file, 100), output=INLINE)
    with pytest.raises(PlanError, match="no fragment"):
        run_task(request, store=store)
    named = msgspec.structs.replace(request, fragment_key="ab/q/fragment", fragment_secret=secret)
    assert_frame_equal(rows_of(store, run_task(named, store=store)), FRAME)
    for wrong in (b"", secret[:-1] + bytes([secret[-1] ^ 1])):
        with pytest.raises(BlockError, match="ab/q/fragment is not the one"):
            run_task(msgspec.structs.replace(named, fragment_secret=wrong), store=store)
    store.put("ab/q/fragment", [bytes([sealed[0] ^ 1]) + sealed[1:]])
    with pytest.raises(BlockError, match="ab/q/fragment is not the one"):
        run_task(named, store=store)


@pytest.mark.parametrize(
    ("plan", "exception"),
    [
        (placeholder(FRAME.schema).select("zz"), "ColumnNotFoundError"),
        (placeholder(FRAME.schema).select(pl.col("b").cast(pl.Date)), "InvalidOperationError"),
        (placeholder({"a": pl.String}), "SchemaError"),
        (placeholder(FRAME.schema).select(pl.col("b").str.to_date("%Y")), "InvalidOperationError"),
    ],
)
def test_an_error_of_polars_keeps_its_class_and_names_stage_task_and_file(
    store: FolderStore, file: Path, plan: pl.LazyFrame, exception: str
) -> None:
    with pytest.raises(QueryError) as caught:
        run_task(task(plan, whole_file(file, 100)), store=store)
    assert caught.value.exception == exception
    assert caught.value.where == {"stage": "2", "task": "5", "file": str(file)}
    assert left_behind(store) == []


def test_a_missing_file_is_what_it_is_in_polars(store: FolderStore, tmp_path: Path) -> None:
    splits = (Split(path=str(tmp_path / "none.parquet"), offset=0, rows=5, whole=True, size=3, etag="x"),)
    with pytest.raises(QueryError) as caught:
        run_task(task(placeholder(FRAME.schema), ScanInput(splits=splits)), store=store)
    assert caught.value.exception == "FileNotFoundError"
    assert caught.value.where["file"] == str(tmp_path / "none.parquet")


def planned(file: Path, **changes: object) -> ScanInput:
    known = stat_file(str(file), None)
    split = {"path": str(file), "offset": 0, "rows": 100, "whole": True, "size": known.size, "etag": known.etag}
    return ScanInput(splits=(Split(**(split | changes)),))  # type: ignore[arg-type]  # the fields of a split


def test_a_file_that_is_still_the_planned_one_is_read(store: FolderStore, file: Path) -> None:
    assert run_task(task(placeholder(FRAME.schema), planned(file)), store=store).stats.rows_out == 100


def test_a_file_that_was_replaced_since_planning_is_refused(store: FolderStore, file: Path) -> None:
    given = planned(file)
    FRAME.reverse().write_parquet(file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
    with pytest.raises(SourceError, match="since the query was planned: run it again") as caught:
        run_task(task(placeholder(FRAME.schema), given), store=store)
    assert caught.value.where == {"stage": "2", "task": "5", "file": str(file)}
    assert left_behind(store) == []


def test_a_file_of_another_size_is_refused_even_without_an_etag(store: FolderStore, file: Path) -> None:
    with pytest.raises(SourceError):
        run_task(task(placeholder(FRAME.schema), planned(file, size=7, etag=None)), store=store)


def test_a_replaced_file_of_another_schema_is_called_replaced_and_not_wrong(store: FolderStore, file: Path) -> None:
    given = planned(file)
    pl.DataFrame({"z": [1]}).write_parquet(file)
    with pytest.raises(SourceError, match="replaced"):
        run_task(task(placeholder(FRAME.schema), given), store=store)


def test_a_torn_block_is_a_block_error_and_not_the_querys_fault(store: FolderStore, file: Path) -> None:
    written = run_task(task(placeholder(FRAME.schema), whole_file(file, 100)), store=store)
    (block,) = exchange_of(written).blocks
    torn = msgspec.structs.replace(block, crc32c=1)
    with pytest.raises(BlockError) as caught:
        run_task(task(placeholder(FRAME.schema).filter(pl.col("a") > 3), ExchangeInput(blocks=(torn,))), store=store)
    assert caught.value.where["task"] == "5"


def test_a_missing_block_is_a_block_error(store: FolderStore, file: Path) -> None:
    written = run_task(task(placeholder(FRAME.schema), whole_file(file, 100)), store=store)
    assert written.key is not None
    store.delete([written.key])
    with pytest.raises(BlockError):
        run_task(task(placeholder(FRAME.schema), exchange_of(written)), store=store)


def test_a_cancelled_task_does_not_start(store: FolderStore, file: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledQueryError):
        run_task(task(placeholder(FRAME.schema), whole_file(file, 100)), store=store, cancelled=token)
    assert left_behind(store) == []


class CancellingStore(FolderStore):
    """Cancels the task while its object is being written."""

    token: CancelToken

    def put(self, key: str, parts: object) -> None:
        super().put(key, parts)  # type: ignore[arg-type]
        self.token.cancel()


def test_what_a_task_wrote_while_it_was_cancelled_is_taken_back(tmp_path: Path, file: Path) -> None:
    store = CancellingStore(tmp_path / "store")
    store.token = CancelToken()
    with pytest.raises(CancelledQueryError):
        run_task(task(placeholder(FRAME.schema), whole_file(file, 100)), store=store, cancelled=store.token)
    assert left_behind(store) == []


class FullStore(FolderStore):
    """Has no space left."""

    def put(self, key: str, parts: object) -> None:
        raise OSError(28, "No space left on device")


def test_a_full_store_is_called_full(tmp_path: Path, file: Path) -> None:
    with pytest.raises(StorageFullError):
        run_task(task(placeholder(FRAME.schema), whole_file(file, 100)), store=FullStore(tmp_path / "store"))


def test_a_task_past_its_deadline_ends(store: FolderStore, file: Path) -> None:
    request = task(placeholder(FRAME.schema), whole_file(file, 100), deadline_unix_s=time.time() - 1)
    with pytest.raises(DeadlineError):
        run_task(request, store=store)


def test_a_task_over_its_memory_limit_fails_with_what_it_used(
    store: FolderStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TaskRun(
        task(placeholder(FRAME.schema), whole_file(file, 100), limits=TaskLimits(memory_bytes=1000)),
        store=store,
        cancelled=CancelToken(),
        memory_limit_bytes=2000,
    )
    monkeypatch.setattr(run._memory, "_measure", lambda: 1100)
    with pytest.raises(OutOfMemoryError):
        run.run()
    assert run.stats().peak_memory_bytes == 1100
    assert left_behind(store) == []


def test_the_first_reason_to_stop_counts_and_is_told_once() -> None:
    told: list[FrazilError] = []
    token = CancelToken(on_cancel=told.append)
    assert not token.is_set()
    token.cancel(OutOfMemoryError("too much"))
    token.cancel(CancelledQueryError("too late"))
    with pytest.raises(OutOfMemoryError):
        token.raise_if_set()
    assert len(told) == 1


def test_the_row_tag_numbers_the_rows_of_the_task(store: FolderStore, file: Path) -> None:
    output = Output(kind="single", prefix="ab/q/2/5", row_tag=True)
    got = rows_of(store, run_task(task(placeholder(FRAME.schema), whole_file(file, 100), output=output), store=store))
    assert got["__frazil_map"].unique().to_list() == [5]
    assert got["__frazil_row"].to_list() == list(range(100))


_RUNS = pl.col("a").cast(pl.Int64).rle().alias("run")
_STREAMING_FAILS: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "SchemaError": lambda lf: lf.select(_RUNS).sort("run"),
    "PanicException": lambda lf: lf.select(_RUNS).join(lf.head(3).select("b"), how="cross"),
}
"""Of polars 2.1: it forgets how the fields of `rle` are called, and how many there are."""


@pytest.mark.parametrize("error", _STREAMING_FAILS)
def test_what_the_streaming_engine_fails_at_is_run_by_the_in_memory_engine(
    error: str, store: FolderStore, file: Path
) -> None:
    build = _STREAMING_FAILS[error]
    with pytest.raises(getattr(pl.exceptions, error)):
        build(pl.scan_parquet(file)).collect(engine="streaming")
    fragment, whole = build(placeholder(FRAME.schema)), whole_file(file, 100)
    written = run_task(task(fragment, whole), store=store)
    expected = build(pl.scan_parquet(file)).collect(engine="in-memory")
    assert_frame_equal(rows_of(store, written), expected)
    assert (written.stats.rows_in, written.stats.rows_out) == (100, expected.height)


def test_the_in_memory_engine_writes_a_sinks_files_too(store: FolderStore, file: Path, tmp_path: Path) -> None:
    build = _STREAMING_FAILS["SchemaError"]
    node = Arena.of(pl.LazyFrame().sink_parquet(tmp_path / "x", lazy=True))
    sink = SinkOutput(node=msgspec.msgpack.encode(node.nodes[node.root]), folder=str(tmp_path / "out"), name="x.parquet")
    request = msgspec.structs.replace(task(build(placeholder(FRAME.schema)), whole_file(file, 100)), sink=sink)
    (written,) = run_task(request, store=store).files
    got = pl.read_parquet(tmp_path / "out" / written.path)
    assert_frame_equal(got, build(pl.scan_parquet(file)).collect(engine="in-memory"))


def test_of_an_error_that_both_engines_raise_the_in_memory_engines_is_told(
    store: FolderStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("of the streaming engine")

    monkeypatch.setattr(pl.LazyFrame, "sink_batches", panic)
    with pytest.raises(QueryError) as caught:
        run_task(
            task(placeholder(FRAME.schema).select((pl.col("a") * 100).cast(pl.Int8)), whole_file(file, 100)), store=store
        )
    assert caught.value.exception == "InvalidOperationError"
    assert left_behind(store) == []


def test_an_error_of_the_users_data_is_told_after_one_run(
    store: FolderStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the in-memory engine was asked")

    monkeypatch.setattr("frazil_functions.run.feed_whole", fail)
    with pytest.raises(QueryError, match="conversion"):
        run_task(
            task(placeholder(FRAME.schema).select((pl.col("a") * 100).cast(pl.Int8)), whole_file(file, 100)), store=store
        )
