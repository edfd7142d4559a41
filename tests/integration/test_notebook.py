"""What a notebook shows of a query over real HTTP: card, frames, and the advice when versions differ."""

from __future__ import annotations

import html
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import frazil
from support.serving import TOKEN, serving

SETTINGS = frazil.Settings(start_small=False, max_rows_per_split=10)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("exchange"), SETTINGS) as address:
        yield address


@pytest.fixture(scope="module")
def lf(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    pl.DataFrame({"k": [i % 3 for i in range(40)], "v": range(40)}).write_parquet(path)
    return pl.scan_parquet(path).group_by("k").agg(pl.col("v").sum()).sort("k")


def shown_by(query: frazil.Query) -> str:
    return html.unescape(query._repr_html_())


def test_the_frames_of_a_profile_agree_with_its_document(url: str, lf: pl.LazyFrame) -> None:
    before = time.time()
    with frazil.connect(url, token=TOKEN, settings=SETTINGS) as engine:
        query = engine.submit(lf)
        query.result(timeout_s=60)
        profile = query.profile()
        frames = profile.frames()
    stages, attempts = frames.stages, frames.attempts
    assert stages["tasks"].to_list() == [stage["tasks"] for stage in profile["stages"]]  # type: ignore[attr-defined]  # JSON
    assert stages["rows_in"][0] == 40
    assert stages["bytes_scanned"].sum() == profile["bytes_scanned"]
    assert attempts.height == stages["attempts"].sum()
    assert set(attempts["state"]) == {"succeeded"}
    assert attempts.filter(stage=0)["rows_in"].sum() == 40
    assert attempts["requests"].sum() == stages["requests"].sum() == sum(profile["requests"].values())  # type: ignore[attr-defined]  # JSON
    started, ended = attempts["started"], attempts["ended"]
    assert (started <= ended).all()
    assert before - 1 < started.dt.epoch("ms").min() / 1000 <= ended.dt.epoch("ms").max() / 1000 < time.time() + 1  # type: ignore[operator]  # numbers
    assert (attempts["seconds"] >= attempts["function_seconds"] - 0.001).all()


def test_a_card_shows_a_query_that_ran_and_one_that_failed(url: str, lf: pl.LazyFrame) -> None:
    with frazil.connect(url, token=TOKEN, settings=SETTINGS) as engine:
        query = engine.submit(lf, labels=["<b>nightly</b>"])
        query.wait()
        shown = shown_by(query)
        bad = engine.submit(lf.with_columns(pl.lit("x").cast(pl.Int64)))
        bad.wait()
        failed = shown_by(bad)
    for words in (query.id, "succeeded", "<b>nightly</b>", "3 rows", "4/4", "$0.0", "read"):
        assert words in shown
    assert "&lt;b&gt;nightly" in query._repr_html_()
    assert "InvalidOperationError: conversion from `str` to `i64` failed" in failed
    assert 'class="fq-state fq-failed"' in failed


def test_the_card_of_a_query_whose_coordinator_is_gone_shows_what_was_known(tmp_path: Path, lf: pl.LazyFrame) -> None:
    with serving(tmp_path, SETTINGS) as address:
        engine = frazil.connect(address, token=TOKEN, settings=SETTINGS)
        query = engine.submit(lf)
        query.wait()
    began = time.monotonic()
    shown = shown_by(query)
    assert time.monotonic() - began < 10
    assert "can't be asked now" in shown
    assert "succeeded" in shown
    assert "3 rows" in shown
    engine.close()
    assert "this engine is closed" in shown_by(query)


def test_a_coordinator_that_hangs_does_not_hold_up_a_notebook(
    url: str, lf: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    with frazil.connect(url, token=TOKEN, settings=SETTINGS) as engine:
        status = engine.submit(lf).wait()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        engine = frazil.connect(f"http://127.0.0.1:{silent.getsockname()[1]}")
        query = frazil.Query(engine._session, status)
        monkeypatch.setattr("frazil._query._GLANCE_S", 0.3)
        began = time.monotonic()
        shown = shown_by(query)
        assert time.monotonic() - began < 10
    assert "within 0.3 s" in shown
    for thread in threading.enumerate():
        if thread.name == "frazil-glance":
            thread.join(30)
    engine.close()


def test_a_local_query_has_a_card_until_and_after_its_engine_is_closed(lf: pl.LazyFrame) -> None:
    with frazil.local(2, settings=SETTINGS) as engine:
        query = engine.submit(lf)
        query.wait()
        assert "succeeded" in shown_by(query)
        later = engine.submit(lf)
        later.wait()
    assert "this engine is closed" not in shown_by(query), "all that is final is known"
    shown = shown_by(later)
    assert "this engine is closed" in shown
    assert "3 rows" in shown


def test_a_local_coordinator_that_is_busy_does_not_hold_up_a_notebook(
    lf: pl.LazyFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil._query._GLANCE_S", 0.05)
    free = threading.Event()
    with frazil.local(2, settings=SETTINGS) as engine:
        query = engine.submit(lf)
        query.wait()
        running = engine._session._running  # type: ignore[attr-defined]  # of the session in this process
        running._loop.call_soon_threadsafe(free.wait, 60)
        began = time.monotonic()
        shown = shown_by(query)
        waited = time.monotonic() - began
        free.set()
        assert "the coordinator of this process is busy for 0.05 s" in shown
        assert "3 rows" in shown
        assert waited < 10
        monkeypatch.setattr("frazil._query._GLANCE_S", 30.0)
        assert "busy" not in shown_by(query)


def test_the_rows_of_a_failed_query_s_attempts_say_why(url: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"s": ["1", "x"] * 20}).write_parquet(path)
    lf = pl.scan_parquet(path).group_by(pl.col("s").cast(pl.Int64)).len()
    with frazil.connect(url, token=TOKEN, settings=SETTINGS) as engine:
        query = engine.submit(lf)
        query.wait()
        attempts = query.profile().frames().attempts
        assert "InvalidOperationError: conversion from `str` to `i64` failed" in shown_by(query)
    failed = attempts.filter(state="failed")
    assert failed.height >= 1
    assert set(failed["error_kind"]) == {"query"}
    assert failed["error"].str.contains("conversion from `str` to `i64`").all()


def test_a_plan_of_another_version_is_refused_at_once_with_the_version_to_install(url: str, lf: pl.LazyFrame) -> None:
    plan = bytearray(lf.serialize())
    plan[20:24] = bytes(ord("0") if letter != ord("0") else ord("1") for letter in plan[20:24])
    with frazil.connect(url, token=TOKEN) as engine:
        with pytest.raises(frazil.PlanVersionError, match=rf'pip install "polars=={pl.__version__}"'):
            engine._session.submit(bytes(plan), ())
        known = engine._session._served  # type: ignore[attr-defined]  # of the session over HTTP
        assert (known.polars, known.ours) == (pl.__version__, True)
