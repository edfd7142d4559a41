"""Function processes as they run in production: ``python -m frazil_functions`` on a loopback port."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.cloudevent import parse_line
from frazil_functions.task import Failed, Heartbeat, Output, Started, Succeeded, TaskLimits
from support.functions import Function, exchange_of, function_process, placeholder, rows_of, slow_plan, task, whole_file
from support.polling import eventually
from support.processes import alive, run_process

FRAME = pl.DataFrame({"a": range(1000), "b": [str(i % 7) for i in range(1000)]})
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Function]:
    """A function that the tests of this module share; a test that ends or blocks one starts its own."""
    with function_process(tmp_path_factory.mktemp("function")) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.parquet"
    FRAME.write_parquet(path)
    return path


def many_rows() -> pl.LazyFrame:
    """Return a plan that yields batch after batch, for longer than any test takes."""
    rows = pl.LazyFrame({"x": range(100_000)})
    return rows.join(rows, how="cross", suffix="_a").filter((pl.col("x") * pl.col("x_a")) % 1_000_003 == 1)


def test_a_scan_goes_to_the_exchange_and_from_there_into_the_next_task(function: Function, file: Path) -> None:
    scan = function.descriptor(task(placeholder(FRAME.schema).filter(pl.col("a") >= 10), whole_file(file, 1000)))
    assert scan.key is not None
    assert_frame_equal(rows_of(function.store, scan), FRAME.tail(990))
    total = placeholder(FRAME.schema).group_by("b").agg(pl.col("a").sum()).sort("b")
    got = function.descriptor(task(total, exchange_of(scan), output=Output(kind="single")))
    assert_frame_equal(rows_of(function.store, got), FRAME.tail(990).group_by("b").agg(pl.col("a").sum()).sort("b"))


def test_a_failing_fragment_says_which_class_of_polars_failed(function: Function, file: Path) -> None:
    last = function.events(task(placeholder(FRAME.schema).select("zz"), whole_file(file, 1000)))[-1]
    assert isinstance(last, Failed)
    assert (last.error.kind, last.error.exception) == ("query", "ColumnNotFoundError")
    assert last.error.where == {"stage": "2", "task": "5", "file": str(file)}


def test_a_wrong_signature_is_refused(function: Function, file: Path) -> None:
    with function.posted(task(placeholder(FRAME.schema), whole_file(file, 1000)), key="guessed") as response:
        assert (response.status, response.headers["frazil-function"]) == (401, "1")


def test_an_old_event_is_refused(function: Function, file: Path) -> None:
    with function.posted(task(placeholder(FRAME.schema), whole_file(file, 1000)), now_unix_s=time.time() - 3600) as response:
        assert response.status == 401
        assert b"expired" in response.read()


def test_a_replayed_event_is_refused(function: Function, file: Path) -> None:
    request, now_unix_s = task(placeholder(FRAME.schema), whole_file(file, 1000)), time.time()
    before = len(function.store.list(""))
    for status, written in ((200, 1), (425, 1)):
        with function.posted(request, now_unix_s=now_unix_s) as response:
            response.read()
            assert response.status == status
        assert len(function.store.list("")) == before + written


def test_another_version_of_polars_is_refused(function: Function, file: Path) -> None:
    with function.posted(task(placeholder(FRAME.schema), whole_file(file, 1000), polars_version="1.0.0")) as response:
        assert response.status == 409


def test_a_long_task_sends_heartbeats(function: Function) -> None:
    events = function.events(task(slow_plan(10), limits=TaskLimits(heartbeat_s=0.02)))
    assert isinstance(events[-1], Succeeded)
    assert any(isinstance(event, Heartbeat) for event in events)


def test_a_client_that_goes_away_frees_the_function_and_publishes_nothing(tmp_path: Path, file: Path) -> None:
    with function_process(tmp_path) as function:
        with function.posted(task(many_rows())) as response:
            assert isinstance(parse_line(response.readline()), Started)
            with function.posted(task(placeholder(FRAME.schema), whole_file(file, 1000))) as busy:
                assert (busy.status, busy.headers["retry-after"]) == (503, "1")

        def is_free() -> bool:
            with function.posted(task(pl.LazyFrame({"a": [1]}), output=Output(kind="single"))) as answer:
                answer.read()
                return answer.status == 200

        eventually(is_free, "the slot is free")
        assert function.store.list("") == []


def test_sigterm_finishes_the_running_task_refuses_others_and_exits_with_0(tmp_path: Path) -> None:
    with function_process(tmp_path) as function:
        with function.posted(task(slow_plan(30))) as response:
            assert isinstance(parse_line(response.readline()), Started)
            os.kill(function.pid, signal.SIGTERM)
            eventually(lambda: function.status() == 0, "nothing new is accepted")
            last = parse_line(response.readlines()[-1])
        assert isinstance(last, Succeeded)
        assert rows_of(function.store, last.descriptor).height == 1
        assert os.waitstatus_to_exitcode(os.waitpid(function.pid, 0)[1]) == 0


def test_a_task_over_its_memory_limit_fails_and_the_function_lives(tmp_path: Path, file: Path) -> None:
    with function_process(tmp_path) as function:
        used = function.descriptor(task(placeholder(FRAME.schema), whole_file(file, 1000))).stats.peak_memory_bytes
        slightly_less = TaskLimits(memory_bytes=int(used / 1.05))
        last = function.events(task(placeholder(FRAME.schema), whole_file(file, 1000), limits=slightly_less))[-1]
        assert isinstance(last, Failed)
        assert last.error.kind == "out_of_memory"
        assert function.status() == 200


def test_a_task_that_grows_far_above_the_limit_says_so_and_ends_the_process_with_137(tmp_path: Path) -> None:
    with function_process(tmp_path, env={"FRAZIL_MEMORY_LIMIT_BYTES": str(400 * MIB)}) as function:
        grows = pl.LazyFrame({"x": [0]}).select(pl.int_range(0, 250_000_000).sqrt().sort(descending=True).alias("y"))
        last = function.events(task(grows))[-1]
        assert isinstance(last, Failed)
        assert last.error.kind == "out_of_memory"
        assert os.waitstatus_to_exitcode(os.waitpid(function.pid, 0)[1]) == 137


def test_a_socket_may_be_handed_down(tmp_path: Path) -> None:
    script = (
        "import os, socket, sys\n"
        "s = socket.socket(); s.bind(('127.0.0.1', int(os.environ['PORT']))); s.listen(); s.set_inheritable(True)\n"
        "os.environ['FRAZIL_FUNCTION_FD'] = str(s.fileno()); os.environ['PORT'] = '1'\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'frazil_functions'])\n"
    )
    with function_process(tmp_path, command=("-c", script)) as function:
        assert isinstance(function.events(task(pl.LazyFrame({"a": [1]})))[-1], Succeeded)


def test_a_function_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'frazil_functions'],"
        " env={**os.environ, 'FRAZIL_PARENT_PID': str(os.getpid())})\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid) + '.')\n"
        "child.wait()\n"
    )
    with function_process(tmp_path, command=("-c", script)) as function:
        child = int((tmp_path / "pid").read_text().removesuffix("."))
        assert alive(child)
        os.kill(function.pid, signal.SIGKILL)
        eventually(lambda: not alive(child), "the function has ended")


@pytest.mark.parametrize(
    ("env", "words"), [({"FRAZIL_TASK_KEYS": ""}, "FRAZIL_TASK_KEYS"), ({"FRAZIL_STORE_URL": "ftp://x"}, "ftp")]
)
def test_a_function_without_keys_or_store_does_not_start(tmp_path: Path, env: dict[str, str], words: str) -> None:
    settings = {"FRAZIL_TASK_KEYS": "k", "FRAZIL_STORE_URL": str(tmp_path), "PORT": "1", **env}
    with run_process([sys.executable, "-m", "frazil_functions"], log=tmp_path / "log", env=settings) as process:
        assert process.wait(timeout=30) == 2
    assert words in (tmp_path / "log").read_text()


def test_a_function_process_imports_only_what_it_needs() -> None:
    script = (
        "from frazil_functions.__main__ import load; load()\n"
        "import sys, uvloop, httptools, uvicorn.protocols.http.httptools_impl\n"
        "print('\\n'.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    imported = set(done.stdout.split())
    assert {"polars", "obstore", "msgspec", "uvicorn"} <= imported
    unwanted = {"pydantic", "fastapi", "starlette", "httpx", "pyarrow", "boto3", "aiohttp", "kubernetes", "click", "rich"}
    assert not imported & (unwanted | {"typer", "cloudpickle", "numpy", "pandas", "frazil", "frazil_coordinator"})
