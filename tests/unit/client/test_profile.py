"""The profile of a query as DataFrames."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime

import msgspec
import polars as pl
import pytest

import frazil
from frazil import QueryProfile
from frazil._profile import ProfileFrames
from support.sessions import FakeSession

START = datetime(2026, 11, 30, 8, tzinfo=UTC)

DONE = {
    "task": 0, "attempt": 1, "began_s": 1.0, "ended_s": 2.5, "attempts": 2, "rows_in": 10, "rows_out": 5, "bytes_in": 100,
    "bytes_out": 50, "blocks": 1, "requests": {"get": 2, "put": 1}, "seconds": 1.25, "peak_memory_bytes": 1 << 20,
    "cold_start": True, "reused": False,
}  # fmt: skip
LOST = {
    "task": 0, "attempt": 0, "kind": "function_lost", "message": "no last line", "seconds": 0.5, "requests": {"get": 1},
    "began_s": 0.25, "cold_start": False,
}  # fmt: skip
STAGE = {
    "stage": 3, "kind": "scan", "tasks": 2, "attempts": 4, "rows_in": 10, "rows_out": 5, "bytes_in": 100, "bytes_out": 50,
    "blocks": 1, "requests": {"get": 2, "put": 1}, "seconds": 2.5, "function_seconds": 1.75, "peak_memory_bytes": 1 << 20,
    "cold_starts": 1, "fallbacks": ["why"], "adaptations": ["2 partitions joined", "a task divided"], "operators": ["scan"],
    "speculated": 1, "reused": 1, "bytes_scanned": 900, "dollars": 0.5, "a_member_of_later": [1],
    "task_list": [DONE, {**DONE, "task": 1, "attempt": 0, "began_s": 0.0, "ended_s": 0.0, "reused": True}],
    "failed_attempts": [LOST, {**LOST, "attempt": 2, "kind": "not_needed", "began_s": 1.5}],
    "running": [{"task": 7, "attempt": 0, "began_s": 3.0, "cold_start": False}],
}  # fmt: skip


def frames(*stages: object, started: datetime | None = START) -> ProfileFrames:
    started_unix_s = None if started is None else started.timestamp()
    return QueryProfile({"query": "q", "stages": list(stages)}, started_unix_s=started_unix_s).frames()


def test_the_frames_have_their_columns_before_anything_ran() -> None:
    empty, full = frames(), frames(STAGE)
    for name in ("stages", "attempts", "adaptations"):
        assert getattr(empty, name).height == 0
        assert getattr(full, name).height > 0
        assert getattr(empty, name).schema == getattr(full, name).schema
    assert empty.attempts.schema["started"] == pl.Datetime("us", "UTC")
    assert QueryProfile({}).frames().stages.schema == full.stages.schema


@pytest.mark.parametrize("name", ["stages", "attempts"])
def test_every_column_and_its_type_is_documented(name: str) -> None:
    documented: dict[str, str] = {}
    words = getattr(ProfileFrames, "__doc__", "") + _attribute_doc(name)
    for row in words.splitlines():
        head = row.strip()[:31].strip()
        if head and not head.startswith("=") and head != "column" and "  " in row.strip():
            types = row.strip()[31:46].strip().split(", ")
            columns = head.split(", ")
            documented |= dict(zip(columns, types * len(columns) if len(types) == 1 else types, strict=True))
    shown = {
        column: "Datetime(UTC)" if dtype == pl.Datetime("us", "UTC") else str(dtype)
        for column, dtype in getattr(frames(), name).schema.items()
    }
    assert documented == shown


def _attribute_doc(name: str) -> str:
    """Return the words under a field of the class, from its source."""
    import ast
    import inspect

    (owner,) = ast.parse(inspect.getsource(ProfileFrames)).body
    assert isinstance(owner, ast.ClassDef)
    for field, words in zip(owner.body, owner.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) == name:
            assert isinstance(words, ast.Expr)
            assert isinstance(words.value, ast.Constant)
            return str(words.value.value)
    raise AssertionError(name)


def test_a_stage_is_a_row() -> None:
    (row,) = frames(STAGE).stages.to_dicts()
    assert row == {
        "stage": 3, "kind": "scan", "tasks": 2, "attempts": 4, "failed": 1, "speculated": 1, "reused": 1, "rows_in": 10,
        "rows_out": 5, "bytes_scanned": 900, "bytes_in": 100, "bytes_out": 50, "blocks": 1, "requests": 3, "seconds": 2.5,
        "function_seconds": 1.75, "cold_starts": 1, "peak_memory_bytes": 1 << 20, "dollars": 0.5, "fallbacks": ["why"],
        "operators": ["scan"],
    }  # fmt: skip


def test_an_attempt_is_a_row_with_its_times_in_the_order_in_which_they_were_sent() -> None:
    attempts = frames(STAGE).attempts
    assert attempts.select("task", "attempt", "state").rows() == [
        (1, 0, "reused"), (0, 0, "failed"), (0, 1, "succeeded"), (0, 2, "not_needed"), (7, 0, "running"),
    ]  # fmt: skip
    succeeded = attempts.row(2, named=True)
    assert succeeded == {
        "stage": 3, "task": 0, "attempt": 1, "state": "succeeded",
        "started": START.replace(second=1), "ended": START.replace(second=2, microsecond=500_000), "seconds": 1.5,
        "function_seconds": 1.25, "rows_in": 10, "rows_out": 5, "bytes_in": 100, "bytes_out": 50, "requests": 3,
        "cold_start": True, "peak_memory_bytes": 1 << 20, "error_kind": None, "error": None,
    }  # fmt: skip
    failed = attempts.row(1, named=True)
    assert (failed["error_kind"], failed["error"], failed["requests"]) == ("function_lost", "no last line", 1)
    assert (failed["seconds"], failed["rows_out"], failed["function_seconds"]) == (0.5, None, None)
    assert attempts.row(3, named=True)["error_kind"] is None
    running = attempts.row(4, named=True)
    assert (running["ended"], running["seconds"]) == (None, None)
    assert running["started"] == START.replace(second=3)


def test_adaptations_are_rows_in_order() -> None:
    assert frames(STAGE).adaptations.rows() == [(3, 0, "2 partitions joined"), (3, 1, "a task divided")]


def test_what_a_coordinator_of_another_version_does_not_tell_is_null() -> None:
    found = frames({"stage": 0, "task_list": [{"task": 0}]}, started=None)
    stage = found.stages.row(0, named=True)
    assert {name for name, value in stage.items() if value is not None} == {"stage", "failed", "fallbacks", "operators"}
    attempt = found.attempts.row(0, named=True)
    assert (attempt["started"], attempt["requests"], attempt["cold_start"]) == (None, None, None)


def test_what_is_no_profile_is_said() -> None:
    with pytest.raises(frazil.RequestError, match=r"not a profile.*stages"):
        QueryProfile({"stages": 1}).frames()


def test_a_profile_is_the_mapping_that_it_was() -> None:
    document = {"query": "q", "stages": [STAGE]}
    profile = QueryProfile(document, started_unix_s=START.timestamp())
    assert profile == document
    assert json.loads(json.dumps(profile)) == msgspec.json.decode(msgspec.json.encode(profile)) == document
    for again in (copy.deepcopy(profile), pickle.loads(pickle.dumps(profile))):
        assert again.frames().attempts.equals(profile.frames().attempts)


def test_a_query_asks_once_and_for_its_start_only_when_it_does_not_know_it() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(pl.LazyFrame({"a": [1]}))
    session.calls.clear()
    assert query.profile().frames().stages.height == 0
    assert session.calls == ["profile q0"]
    session.profiles["q0"], session.started_unix_s = {"query": "q0", "stages": [STAGE]}, START.timestamp()
    for _ in range(2):
        assert query.profile().frames().attempts["started"].min() == START
    assert session.calls == ["profile q0", "profile q0", "status q0", "profile q0"]
