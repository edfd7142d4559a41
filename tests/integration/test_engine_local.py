"""The engine on real function processes of this machine: every way in which polars runs a query."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import frazil
from support.parity import assert_same

TINY = frazil.Settings(start_small=False, max_rows_per_split=4)
ROWS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    for part in range(3):
        values = range(part * ROWS, (part + 1) * ROWS)
        frame = pl.DataFrame({"k": [value % 7 for value in values], "v": list(values), "s": [f"s{v % 5}" for v in values]})
        frame.write_parquet(folder / f"part-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[frazil.Engine]:
    with frazil.local(2, settings=TINY) as engine:
        yield engine


@pytest.fixture
def table(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "*.parquet")


def grouped(table: pl.LazyFrame) -> pl.LazyFrame:
    return table.group_by("k").agg(pl.col("v").sum(), pl.len()).sort("k")


def polars(lf: pl.LazyFrame) -> pl.DataFrame:
    return lf.collect(engine="in-memory")


def test_collect_gives_the_answer_of_polars_from_many_tasks(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    assert_same(grouped(table).collect(engine=engine), polars(grouped(table)), ordered=True)
    query = engine.last_query
    assert query is not None
    assert query.status().state is frazil.QueryState.SUCCEEDED
    assert sum(stage.tasks for stage in query.progress()) > 10


def test_an_engine_starts_nothing_until_a_query_needs_it() -> None:
    threads = threading.active_count()
    with frazil.local(2) as engine:
        assert "not started" in repr(engine)
        assert threading.active_count() == threads


def test_a_temporary_store_goes_with_its_engine(
    table: pl.LazyFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with frazil.local(1) as engine:
        table.collect(engine=engine)
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(frazil.RequestError, match="closed"):
        table.collect(engine=engine)
    engine.close()


def test_relative_paths_mean_the_user_s_folder(engine: frazil.Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    lf = pl.scan_parquet("*.parquet")
    assert_same(lf.collect(engine=engine), polars(lf), ordered=True)


def test_an_in_memory_frame_travels_with_the_plan(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    names = pl.LazyFrame({"k": [0, 1, 2], "name": ["zero", "one", "two"]})
    lf = table.join(names, on="k").sort("v")
    assert_same(lf.collect(engine=engine), polars(lf), ordered=True)


def test_batches_come_in_order_and_in_chunks(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    batches = list(table.sort("v").collect_batches(engine=engine, chunk_size=7))
    assert [batch.height for batch in batches][:-1] == [7] * (len(batches) - 1)
    assert_same(pl.concat(batches), polars(table.sort("v")), ordered=True)


def test_several_queries_run_at_once(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    queries = [grouped(table), table.select(pl.len()), table.sort("v", descending=True).head(3)]
    for ours, theirs in zip(pl.collect_all(queries, engine=engine), pl.collect_all(queries), strict=True):
        assert_same(ours, theirs, ordered=True)


async def test_collect_async_leaves_the_loop_free(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    one, two = grouped(table).collect_async(engine=engine), table.select(pl.len()).collect_async(engine=engine)
    await asyncio.sleep(0)
    assert_same(await one, polars(grouped(table)), ordered=True)
    assert (await two).item() == 3 * ROWS


def test_several_threads_may_use_one_engine(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    with ThreadPoolExecutor(4) as pool:
        counts = pool.map(lambda k: table.filter(pl.col("k") == k).select(pl.len()).collect(engine=engine).item(), range(7))
        assert sum(counts) == 3 * ROWS


def test_explain_shows_stages_and_runs_nothing(table: pl.LazyFrame) -> None:
    with frazil.local(2, settings=TINY) as engine:
        text = engine.explain(grouped(table))
        assert "STAGE 0" in text
        assert "group_by" in text
        assert engine.last_query is None


def test_a_submitted_query_tells_its_plan_its_events_and_its_profile(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    query = engine.submit(grouped(table), labels=["mine"])
    assert "STAGE 0" in query.explain()
    states = [event.status.state for event in query.events()]
    assert states[-1] is frazil.QueryState.SUCCEEDED
    assert query.status().labels == ("mine",)
    assert_same(query.result(), polars(grouped(table)), ordered=True)
    profile = json.loads(json.dumps(query.profile()))
    assert profile["query"] == query.id
    names = "stage kind tasks attempts rows_in rows_out bytes_in bytes_out blocks requests seconds"
    keys = {*names.split(), "peak_memory_bytes", "cold_starts", "fallbacks"}
    assert all(keys <= stage.keys() for stage in profile["stages"])


def test_a_cancelled_query_ends_and_says_so(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    values, more = table.select("v"), table.select(w="v")
    many = values.join(more, how="cross").select(pl.col("v").sum())
    query = engine.submit(many)
    query.cancel()
    assert query.wait(30).state is frazil.QueryState.CANCELLED
    with pytest.raises(frazil.CancelledQueryError):
        query.result()


def test_a_polars_error_of_a_function_is_the_same_class_here(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    bad = table.select(pl.col("s").cast(pl.Int64))
    with pytest.raises(pl.exceptions.InvalidOperationError) as caught:
        bad.collect(engine=engine)
    assert "stage" in caught.value.__notes__[0]


def test_a_missing_column_is_polars_own_error(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        table.select("nowhere").collect(engine=engine)


def test_a_python_function_is_refused_before_anything_runs(engine: frazil.Engine, table: pl.LazyFrame) -> None:
    with pytest.raises(frazil.PythonPlanError):
        table.map_batches(lambda frame: frame).collect(engine=engine)


def test_a_fallback_is_warned_of_when_asked_for(folder: Path) -> None:
    settings = frazil.Settings(start_small=False, max_rows_per_split=4, fallback="warn")
    lf = pl.scan_parquet(folder / "*.parquet").select(pl.col("v").ewm_std(com=1))
    with frazil.local(1, settings=settings) as engine:
        with pytest.warns(frazil.FallbackWarning):
            frame = lf.collect(engine=engine)
        assert_same(frame, polars(lf), ordered=True)


SCRIPT = """
import sys
import polars as pl
table = pl.scan_parquet(sys.argv[1] + "/*.parquet")
print(table.group_by("k").agg(pl.col("v").sum()).sort("k").collect()["v"].to_list())
"""


def test_affinity_makes_an_unmodified_script_distributed(engine: frazil.Engine, folder: Path, table: pl.LazyFrame) -> None:
    before = engine.last_query
    with pl.Config(engine_affinity=engine):
        code = compile(SCRIPT.replace("print(", "answer = (").replace("sys.argv[1]", repr(str(folder))), "script", "exec")
        names: dict[str, object] = {}
        exec(code, names)
    assert engine.last_query is not before
    assert names["answer"] == polars(grouped(table))["v"].to_list()


def run_python(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


AT_EXIT = """
import sys, tempfile
import frazil, polars as pl
tempfile.tempdir = sys.argv[2]
engine = frazil.local(2, settings=frazil.Settings(start_small=False, max_rows_per_split=4))
print(pl.scan_parquet(sys.argv[1] + "/*.parquet").group_by("k").agg(pl.len()).collect(engine=engine).height)
engine.submit(pl.scan_parquet(sys.argv[1] + "/*.parquet").sort("v"))
"""


def test_the_end_of_the_interpreter_stops_what_the_engine_started(folder: Path, tmp_path: Path) -> None:
    done = run_python(AT_EXIT, str(folder), str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")
    assert list(tmp_path.iterdir()) == []


AFTER_FORK = """
import os, sys
import frazil, polars as pl
engine = frazil.local(1)
lf = pl.scan_parquet(sys.argv[1] + "/*.parquet").select(pl.len())
print(lf.collect(engine=engine).item(), flush=True)
pid = os.fork()
if pid == 0:
    try:
        lf.collect(engine=engine)
    except frazil.RequestError as error:
        print(error, flush=True)
    engine.close()
    os._exit(0)
os.waitpid(pid, 0)
print(lf.collect(engine=engine).item(), flush=True)
"""


def test_a_forked_child_gets_a_clear_error_and_its_parent_goes_on(folder: Path, tmp_path: Path) -> None:
    done = run_python(AFTER_FORK, str(folder), cwd=tmp_path)
    first, refusal, last = done.stdout.splitlines()
    assert (first, last) == ("90", "90"), done.stderr
    assert "after the fork" in refusal


INTERRUPTED = """
import signal, sys, threading
import frazil, polars as pl
engine = frazil.local(1, settings=frazil.Settings(start_small=False, max_rows_per_split=4))
table = pl.scan_parquet(sys.argv[1] + "/*.parquet").select("v")
others = [table.rename({"v": name}) for name in "ab"]
query = engine.submit(table.join(others[0], how="cross").join(others[1], how="cross").select(pl.col("v").sum()))
def interrupt():
    next(event for event in query.events() if event.status.progress)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
try:
    query.result()
except KeyboardInterrupt:
    print(query.status().state.value)
"""


def test_an_interrupt_cancels_the_query(folder: Path, tmp_path: Path) -> None:
    done = run_python(INTERRUPTED, str(folder), cwd=tmp_path)
    assert done.stdout == "cancelled\n", done.stderr
