"""Attempts of a profile in the order in which they were sent, and how even a stage is."""

from __future__ import annotations

import pytest

from frazil_coordinator.schedule.timeline import BINS, AttemptLine, task_page


def done(task: int, *, began: float = 0.0, seconds: float = 1.0, attempt: int = 0, cold: bool = False) -> dict[str, object]:
    return {
        "task": task,
        "attempt": attempt,
        "attempts": attempt + 1,
        "began_s": began,
        "ended_s": began + seconds + 0.5,
        "rows_in": 10 * task,
        "rows_out": task,
        "bytes_in": 0,
        "bytes_out": 7,
        "blocks": 1,
        "seconds": seconds,
        "peak_memory_bytes": 100,
        "cold_start": cold,
    }


def failed(task: int, *, began: float = 0.0, kind: str = "storage", message: str = "gone") -> dict[str, object]:
    return {
        "task": task, "attempt": 0, "kind": kind, "message": message, "seconds": 0.25, "requests": {}, "began_s": began,
        "cold_start": True,
    }  # fmt: skip


PROFILE: dict[str, object] = {
    "query": "q",
    "state": "running",
    "seconds": 9.0,
    "stages": [
        {
            "stage": 0,
            "kind": "scan",
            "task_list": [done(0, cold=True), done(1, began=2.0, attempt=1)],
            "failed_attempts": [failed(1)],
        },
        {
            "stage": 1,
            "running": [{"task": 0, "attempt": 0, "began_s": 4.0, "cold_start": False}],
            "failed_attempts": [failed(2, began=3.0, kind="not_needed")],
        },
    ],
}


def keys(attempts: tuple[AttemptLine, ...]) -> list[tuple[int, int, int, str]]:
    return [(one.stage, one.task, one.attempt, one.state) for one in attempts]


def test_attempts_stand_in_the_order_in_which_they_were_sent() -> None:
    page = task_page(PROFILE, stage=None, offset=0, limit=100)
    assert keys(page.attempts) == [
        (0, 0, 0, "succeeded"),
        (0, 1, 0, "failed"),
        (0, 1, 1, "succeeded"),
        (1, 2, 0, "not_needed"),
        (1, 0, 0, "running"),
    ]
    assert (page.query, page.seconds, page.total) == ("q", 9.0, 5)
    first, lost, again, _, running = page.attempts
    assert (first.began_s, first.ended_s, first.cold_start, first.rows_in) == (0.0, 1.5, True, 0)
    assert (lost.ended_s, lost.kind, lost.message, lost.rows_in) == (0.25, "storage", "gone", None)
    assert (again.seconds, again.bytes_out) == (1.0, 7)
    assert (running.began_s, running.ended_s) == (4.0, None)


def test_a_page_holds_no_more_than_it_may_and_one_stage_may_be_asked_for() -> None:
    page = task_page(PROFILE, stage=0, offset=1, limit=1)
    assert keys(page.attempts) == [(0, 1, 0, "failed")]
    assert page.total == 3
    assert [one.stage for one in page.spreads] == [0]
    assert task_page(PROFILE, stage=None, offset=9, limit=1).attempts == ()


def test_a_long_message_is_cut() -> None:
    stage = {"stage": 0, "failed_attempts": [failed(0, message="x" * 10_000)]}
    (line,) = task_page({"query": "q", "stages": [stage]}, stage=None, offset=0, limit=9).attempts
    assert len(line.message) == 500


def test_a_spread_counts_every_finished_task_once_whatever_the_page() -> None:
    tasks = [done(task, seconds=1.0) for task in range(30)] + [done(30, seconds=21.0)]
    page = task_page({"query": "q", "stages": [{"stage": 3, "task_list": tasks}]}, stage=None, offset=0, limit=0)
    (spread,) = page.spreads
    assert (spread.stage, spread.tasks) == (3, 31)
    seconds = spread.measures["seconds"]
    assert (seconds.least, seconds.median, seconds.largest, seconds.total) == (1.0, 1.0, 21.0, 51.0)
    assert seconds.counts == (30, *[0] * (BINS - 2), 1)
    assert spread.measures["bytes_out"].counts == (31,)  # all the same: one bin
    assert "bytes_in" not in spread.measures  # nothing but zeros


@pytest.mark.parametrize("profile", [{"query": "q", "stages": []}, {"query": "q", "stages": [{"stage": 0}]}])
def test_a_query_that_did_nothing_yet_has_an_empty_page(profile: dict[str, object]) -> None:
    page = task_page(profile, stage=None, offset=0, limit=10)
    assert (page.total, page.attempts, page.spreads) == (0, (), ())


def test_a_profile_from_before_there_were_times_can_be_read() -> None:
    old = {name: value for name, value in done(0).items() if name not in ("attempt", "began_s", "ended_s")}
    (line,) = task_page({"query": "q", "stages": [{"stage": 0, "task_list": [old]}]}, stage=None, offset=0, limit=9).attempts
    assert (line.attempt, line.began_s, line.seconds) == (0, 0.0, 1.0)


def test_a_task_that_was_reused_has_a_line_of_its_own_and_is_in_no_spread() -> None:
    """Its other figures are those of the attempt that gave the answer once."""
    reused = {**done(0), "reused": True, "requests": {"get": 5}}
    stage: dict[str, object] = {"stage": 0, "task_list": [reused, done(1)]}
    page = task_page({**PROFILE, "stages": [stage]}, stage=None, offset=0, limit=100)
    assert keys(page.attempts) == [(0, 0, 0, "reused"), (0, 1, 0, "succeeded")]
    line = page.attempts[0]
    assert (line.rows_out, line.bytes_out, line.rows_in, line.seconds, line.requests) == (0, 7, None, None, {})
    assert [spread.tasks for spread in page.spreads] == [1]
    assert [(one.stage, one.tasks) for one in page.reused] == [(0, 1)]
    other = task_page({**PROFILE, "stages": [stage]}, stage=1, offset=0, limit=0)
    assert other.reused == page.reused


def test_an_attempt_tells_its_requests_to_the_store_a_failed_one_too() -> None:
    lost = {**failed(1), "requests": {"get": 2}}
    stage: dict[str, object] = {
        "stage": 0,
        "task_list": [{**done(0), "requests": {"get": 3, "put": 1, "hedge": 1}}],
        "failed_attempts": [lost],
    }
    page = task_page({**PROFILE, "stages": [stage]}, stage=None, offset=0, limit=100)
    assert [one.requests for one in page.attempts] == [{"get": 3, "put": 1, "hedge": 1}, {"get": 2}]
