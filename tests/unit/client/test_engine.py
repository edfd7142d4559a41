"""What polars and users see of an engine, on a session that answers from polars."""

from __future__ import annotations

import asyncio
import traceback
import warnings
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import frazil
from frazil_coordinator.query_settings import Reusing
from frazil_functions.errors import QueryError, StorageError
from support.sessions import FakeSession


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def engine(session: FakeSession) -> frazil.Engine:
    return frazil.Engine(session)


def query(rows: int = 5) -> pl.LazyFrame:
    return pl.LazyFrame({"a": list(range(rows)), "b": [str(row) for row in range(rows)]}).filter(pl.col("a") > 0)


def local(lf: pl.LazyFrame) -> pl.DataFrame:
    return lf.collect(engine="in-memory")


def test_an_engine_is_an_engine_of_polars(engine: frazil.Engine) -> None:
    assert isinstance(engine, pl.Engine)
    assert engine.name == "frazil"
    assert "FILTER" in query().explain(engine=engine)


def test_collect_gives_the_rows_of_polars(engine: frazil.Engine) -> None:
    assert_frame_equal(query().collect(engine=engine), local(query()))


def test_an_empty_result_keeps_its_schema(engine: frazil.Engine) -> None:
    nothing = query().filter(pl.col("a") > 100)
    assert nothing.collect(engine=engine).schema == nothing.collect_schema()


def test_the_last_query_is_the_one_that_ran_last(engine: frazil.Engine) -> None:
    before = engine.last_query
    assert before is None
    query().collect(engine=engine)
    query().collect(engine=engine)
    assert engine.last_query is not None
    assert engine.last_query.id == "q1"


def test_affinity_sends_lazy_queries_and_leaves_eager_operations(
    engine: frazil.Engine, session: FakeSession, tmp_path: Path
) -> None:
    with pl.Config(engine_affinity=engine):
        frame = pl.DataFrame({"a": [3, 1, 2]})
        assert frame.sort("a").filter(pl.col("a") > 1).group_by("a").len().height == 2
        assert pl.concat([frame, frame]).height == 6
        frame.write_parquet(tmp_path / "a.parquet")  # a sink with the engine that is asked for, in polars
        assert pl.read_parquet_schema(tmp_path / "a.parquet") == frame.schema
        assert session.calls == []
        frame.lazy().select(pl.col("a").sum()).collect()
    assert session.calls[0] == "submit q0"


def test_background_collect_gives_a_handle(engine: frazil.Engine, session: FakeSession) -> None:
    session.hold = True
    handle = query().collect(engine=engine, background=True)
    assert handle.fetch() is None
    session.release.set()
    assert_frame_equal(handle.fetch_blocking(), local(query()))
    fetched = handle.fetch()
    assert fetched is not None
    assert_frame_equal(fetched, local(query()))


def test_a_background_collect_can_be_cancelled(engine: frazil.Engine) -> None:
    handle = query().collect(engine=engine, background=True)
    handle.cancel()
    with pytest.raises(frazil.CancelledQueryError):
        handle.fetch_blocking()


def test_callbacks_on_the_optimised_plan_are_refused(engine: frazil.Engine) -> None:
    with pytest.raises(NotImplementedError, match="post_opt_callback"):
        engine.collect(query(), optimizations=pl.QueryOptFlags(), post_opt_callback=lambda *_: None)


def test_execute_gives_a_query_result(engine: frazil.Engine) -> None:
    result = query().execute(engine=engine)
    assert result.n_rows_total == 4
    assert result.head is not None
    assert_frame_equal(result.lazy().collect(engine="in-memory"), local(query()))


async def test_collect_async_is_awaitable(engine: frazil.Engine) -> None:
    assert_frame_equal(await query().collect_async(engine=engine), local(query()))


async def test_collect_async_raises_what_the_query_raised(engine: frazil.Engine, session: FakeSession) -> None:
    session.error = QueryError("no column", exception="ColumnNotFoundError")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        await query().collect_async(engine=engine)


async def test_cancelling_collect_async_cancels_the_query(engine: frazil.Engine, session: FakeSession) -> None:
    session.hold = True
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0):
            await query().collect_async(engine=engine)
    assert await asyncio.to_thread(session.release.wait, 10)
    assert "cancel q0" in session.calls


async def test_several_queries_can_be_awaited_at_once(engine: frazil.Engine) -> None:
    frames = await pl.collect_all_async([query(3), query(9)], engine=engine)
    assert [frame.height for frame in frames] == [2, 8]


def test_gevent_is_refused(engine: frazil.Engine) -> None:
    with pytest.raises(NotImplementedError, match="gevent"):
        query().collect_async(engine=engine, gevent=True)


def test_collect_all_submits_all_then_gathers_in_order(engine: frazil.Engine, session: FakeSession) -> None:
    frames = pl.collect_all([query(3), query(9), query(2)], engine=engine)
    assert [frame.height for frame in frames] == [2, 8, 1]
    assert session.calls[:3] == ["submit q0", "submit q1", "submit q2"]


def test_when_one_of_several_queries_fails_the_others_are_cancelled(engine: frazil.Engine, session: FakeSession) -> None:
    session.error = StorageError("no store")
    with pytest.raises(frazil.StorageError):
        pl.collect_all([query(), query()], engine=engine)
    assert {"cancel q0", "cancel q1"} <= set(session.calls)


def test_batches_come_block_by_block_in_order(engine: frazil.Engine) -> None:
    batches = list(query(8).collect_batches(engine=engine))
    assert [batch.height for batch in batches] == [2, 2, 2, 1]
    assert_frame_equal(pl.concat(batches), local(query(8)))


def test_batches_honour_their_chunk_size(engine: frazil.Engine) -> None:
    assert [batch.height for batch in query(8).collect_batches(engine=engine, chunk_size=3)] == [3, 3, 1]


def test_lazy_batches_start_the_query_with_the_first_one(engine: frazil.Engine, session: FakeSession) -> None:
    batches = query().collect_batches(engine=engine, lazy=True)
    assert session.calls == []
    next(batches)
    assert session.calls[0] == "submit q0"


def test_batches_that_nobody_reads_cancel_their_query(engine: frazil.Engine, session: FakeSession) -> None:
    batches = query().collect_batches(engine=engine)
    del batches
    assert session.calls == ["submit q0", "cancel q0"]


def test_batches_are_a_stream_of_arrow_data(engine: frazil.Engine) -> None:
    batches = query(8).collect_batches(engine=engine, lazy=True)
    assert_frame_equal(pl.DataFrame(batches), local(query(8)))


def test_a_polars_error_comes_back_as_its_class_with_the_place(engine: frazil.Engine, session: FakeSession) -> None:
    session.error = QueryError("no x", exception="ColumnNotFoundError", where={"stage": "2", "task": "5"})
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="no x") as caught:
        query().collect(engine=engine)
    assert caught.value.__notes__ == ["frazil: stage 2, task 5"]
    told = "".join(traceback.format_exception(caught.value))
    assert told.count("Traceback") == 1, "neither the coordinator's way to it nor Frazil's own class"
    assert "QueryError" not in told


def test_what_is_wrong_with_the_platform_keeps_its_cause(engine: frazil.Engine, session: FakeSession) -> None:
    session.error = StorageError("the store is down")
    with pytest.raises(StorageError) as caught:
        query().collect(engine=engine)
    assert not caught.value.__suppress_context__


def test_an_interrupt_cancels_the_query_and_goes_on(engine: frazil.Engine, session: FakeSession) -> None:
    session.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        query().collect(engine=engine)
    assert "cancel q0" in session.calls


def test_a_fallback_is_warned_of_once_and_at_the_user_s_line(engine: frazil.Engine, session: FakeSession) -> None:
    session.fallbacks = ("PIVOT: no distributed form",)
    with pytest.warns(frazil.FallbackWarning, match="PIVOT") as caught:
        query().collect(engine=engine)
    assert [warning.filename for warning in caught] == [__file__]
    assert engine.last_query is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.last_query.status()


def test_explain_and_submit_with_labels(engine: frazil.Engine, session: FakeSession) -> None:
    assert engine.explain(query()).startswith("a plan of")
    assert engine.submit(query(), labels=["nightly", "x"]).id == "q0"
    assert session.labels["q0"] == ("nightly", "x")


def test_a_closed_context_closes_the_session(engine: frazil.Engine, session: FakeSession) -> None:
    with engine as inside:
        assert inside is engine
    assert session.closed == 1


def test_a_plan_that_is_too_large_names_the_setting(session: FakeSession) -> None:
    session.settings = frazil.Settings(max_plan_bytes=1_000)
    with pytest.raises(frazil.PlanError, match="max_plan_bytes"):
        query(1_000).collect(engine=frazil.Engine(session))


def test_a_query_says_what_it_reuses_or_the_engine_does(session: FakeSession) -> None:
    engine = frazil.Engine(session, reusing=Reusing(reuse="tasks", max_age_s=5.0))
    engine.submit(query())
    engine.submit(query(), reuse="result")
    engine.submit(query(), reuse="off", max_age_s=1.0)
    query().collect(engine=engine)
    assert session.reusings == {
        "q0": Reusing(reuse="tasks", max_age_s=5.0),
        "q1": Reusing(reuse="result", max_age_s=5.0),
        "q2": Reusing(reuse="off", max_age_s=1.0),
        "q3": Reusing(reuse="tasks", max_age_s=5.0),
    }


def test_a_query_has_its_own_priority_or_the_engine_s(session: FakeSession) -> None:
    engine = frazil.Engine(session, priority=3)
    engine.submit(query())
    engine.submit(query(), priority=-2)
    query().collect(engine=engine)
    assert session.priorities == {"q0": 3, "q1": -2, "q2": 3}
