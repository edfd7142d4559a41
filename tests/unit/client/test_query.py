"""A submitted query, as its user sees it."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import frazil
from frazil_functions.errors import InternalError
from support.sessions import FakeSession

LF = pl.LazyFrame({"a": [1, 2, 3]})


def test_a_query_tells_id_status_and_progress() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    assert query.id == "q0"
    assert query.status().state is frazil.QueryState.RUNNING
    assert [stage.tasks for stage in query.progress()] == [2]


def test_the_result_is_kept_for_the_one_who_asks_again() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(LF)
    assert_frame_equal(query.result(), LF.collect(engine="in-memory"))
    assert query.result() is query.result()
    assert session.calls.count("batches q0") == 1


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_the_query_goes_on() -> None:
    session = FakeSession(hold=True)
    query = frazil.Engine(session).submit(LF)
    with pytest.raises(TimeoutError, match="it goes on"):
        query.result(timeout_s=0)
    session.release.set()
    assert query.result(timeout_s=10).height == 3


def test_batches_add_up_to_the_result() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    assert_frame_equal(pl.concat(list(query.batches())), LF.collect(engine="in-memory"))


def test_a_cancelled_query_has_no_result() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    query.cancel()
    assert query.wait().state is frazil.QueryState.CANCELLED
    with pytest.raises(frazil.CancelledQueryError):
        query.result()


def test_errors_that_are_not_polars_keep_their_class() -> None:
    query = frazil.Engine(FakeSession(error=InternalError("broken", where={"stage": "1"}))).submit(LF)
    with pytest.raises(frazil.TaskError, match=r"broken \(stage 1\)"):
        query.result()


def test_events_end_with_the_query() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    assert [event.status.state.value for event in query.events()] == ["running", "succeeded"]


def test_profile_and_plan_come_from_the_coordinator() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    assert query.profile() == {"query": "q0", "stages": []}
    assert query.explain() == "the plan of q0"


def test_a_query_shows_itself_in_a_terminal_and_in_a_notebook() -> None:
    query = frazil.Engine(FakeSession()).submit(LF)
    assert repr(query) == "<frazil.Query q0 running, 0 of 2 tasks>"
    assert "0/2" in query._repr_html_()
