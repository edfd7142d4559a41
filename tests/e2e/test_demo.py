"""The demonstration, small, as a user starts it: its answers, its exit codes, and that it leaves nothing running."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from benchmarks.demo import story
from benchmarks.demo.story import Options, tell
from benchmarks.demo.view import View
from benchmarks.pdsh.harness import run_polars
from benchmarks.pdsh.tables import Tables
from support.processes import alive

ROOT = Path(__file__).parents[2]
SCALE = "0.01"


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-u", "-m", "benchmarks.demo", f"--scale={SCALE}", f"--folder={folder}"]


def _pids(text: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"pid (\d+)", text)]


def _assert_nothing_is_left(folder: Path, text: str) -> None:
    assert [pid for pid in _pids(text) if alive(pid)] == []
    assert sorted(path.name for path in folder.iterdir()) == ["logs", f"sf{SCALE}-8"]


def test_the_demo_gives_polars_answers_shows_functions_going_to_zero_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(_command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.count("equal to single-node Polars on the same files") == 3
    assert re.search(r"^functions +0 after", done.stdout, re.MULTILINE)
    assert "s3://tpch/exchange is empty again" in done.stdout
    assert len(_pids(done.stdout)) == 2
    _assert_nothing_is_left(tmp_path, done.stdout)


def test_an_interrupted_demo_ends_what_it_started(tmp_path: Path) -> None:
    process = subprocess.Popen(_command(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if "functions before it" in line:  # the first query is about to run
            os.kill(process.pid, signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, seen + rest
    assert rest.rstrip().endswith("error: interrupted; everything that was started has ended")
    _assert_nothing_is_left(tmp_path, seen)


def test_the_demo_says_so_when_an_answer_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_for_query_3(number: int, tables: Tables) -> tuple[pl.DataFrame, float]:
        answer, seconds = run_polars(number, tables)
        return (answer.head(1) if number == 3 else answer), seconds

    monkeypatch.setattr(story, "run_polars", wrong_for_query_3)
    out = io.StringIO()
    equal = tell(Options(scale=float(SCALE), folder=tmp_path, max_functions=2), View(Console(file=out, width=120)))
    assert not equal
    assert "DIFFERENT from single-node Polars: 10 rows instead of 1" in out.getvalue()
    _assert_nothing_is_left(tmp_path, out.getvalue())


def test_a_missing_program_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    code = "import sys; sys.executable = '/nowhere/python'; from benchmarks.demo.__main__ import main"
    command = [sys.executable, "-c", f"{code}; sys.exit(main(['--scale=0.01', {f'--folder={tmp_path}'!r}]))"]
    environment = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("error: no program 'tpchgen-cli': `make setup` installs it")
