"""What of a LazyFrame is changed on its way to a coordinator, and what is refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import polars as pl
import pytest

from frazil._serialize import serialize
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError, PythonPlanError

SCHEMA = {"a": pl.Int64}
LIMIT = 1 << 20


def paths(plan: bytes) -> list[str]:
    arena = Arena.decode(plan)
    return [path for number in arena.reachable() for path in arena.scan_paths(number) or []]


def test_a_plan_without_paths_is_sent_as_polars_writes_it() -> None:
    lf = pl.LazyFrame({"a": [1]}).filter(pl.col("a") > 0)
    assert serialize(lf, max_plan_bytes=LIMIT) == lf.serialize()


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lf = pl.scan_parquet(["x/*.parquet", "./y.parquet", "/abs.parquet"], schema=SCHEMA)
    found = paths(serialize(lf, max_plan_bytes=LIMIT))
    assert found == [str(tmp_path / "x" / "*.parquet"), str(tmp_path / "y.parquet"), "/abs.parquet"]


@pytest.mark.parametrize("path", ["s3://b/x.parquet", "file:///x.parquet"])
def test_urls_stay_as_they_are(path: str) -> None:
    assert paths(serialize(pl.scan_parquet(path, schema=SCHEMA), max_plan_bytes=LIMIT)) == [path]


def test_paths_that_are_part_of_the_answer_stay_as_they_are() -> None:
    lf = pl.scan_parquet("x.parquet", schema=SCHEMA, include_file_paths="path")
    assert paths(serialize(lf, max_plan_bytes=LIMIT)) == ["x.parquet"]


def test_a_folder_with_glob_characters_is_not_put_before_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "a[1]"
    odd.mkdir()
    monkeypatch.chdir(odd)
    assert paths(serialize(pl.scan_parquet("x.parquet", schema=SCHEMA), max_plan_bytes=LIMIT)) == ["x.parquet"]


def test_every_scan_of_a_plan_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = (pl.scan_parquet(name, schema=SCHEMA) for name in ("x.parquet", "y.parquet"))
    lf = pl.concat([one, two]).join(pl.scan_csv("z.csv", schema=SCHEMA), on="a")
    assert {os.path.dirname(path) for path in paths(serialize(lf, max_plan_bytes=LIMIT))} == {str(tmp_path)}  # noqa: PTH120


@pytest.mark.parametrize(
    "options",
    [
        None,
        {"aws_region": "eu-west-1"},
        {"aws_access_key_id": "k", "aws_secret_access_key": "s", "aws_endpoint_url": "http://127.0.0.1:1"},
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_the_automatic_credential_provider_is_taken_out(scheme: str, options: dict[str, str] | None) -> None:
    lf = pl.scan_parquet(f"{scheme}://bucket/x.parquet", schema=SCHEMA, storage_options=options if scheme == "s3" else None)
    plan = serialize(lf, max_plan_bytes=LIMIT)
    assert Arena.decode(plan).python_functions() == []
    assert all(value.encode() in plan for value in (options or {}).values() if scheme == "s3")


def test_a_chosen_credential_provider_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLARS_WARN_UNSTABLE", "0")
    lf = pl.scan_parquet("s3://b/x.parquet", schema=SCHEMA, credential_provider=lambda: ({}, None))
    with pytest.raises(PythonPlanError, match="storage_options="):
        serialize(lf, max_plan_bytes=LIMIT)


def test_a_profile_of_this_machine_is_refused_with_advice() -> None:
    lf = pl.scan_parquet("s3://b/x.parquet", schema=SCHEMA, storage_options={"aws_profile": "me"})
    with pytest.raises(PythonPlanError, match="profile 'me'"):
        serialize(lf, max_plan_bytes=LIMIT)


def test_a_function_that_can_t_be_pickled_is_a_clear_error() -> None:
    lock = threading.Lock()
    lf = pl.LazyFrame({"a": [1]}).map_batches(lambda frame: (lock, frame)[1])
    with pytest.raises(PythonPlanError, match="cannot pickle"):
        serialize(lf, max_plan_bytes=LIMIT)


def test_a_frame_of_python_objects_is_a_clear_error() -> None:
    with pytest.raises(PythonPlanError, match="Object"):
        serialize(pl.LazyFrame({"a": [object()]}), max_plan_bytes=LIMIT)


def test_a_plan_over_the_limit_is_refused() -> None:
    with pytest.raises(PlanError, match="write large ones to Parquet"):
        serialize(pl.LazyFrame({"a": list(range(1_000))}), max_plan_bytes=100)


def test_a_plan_that_waits_for_its_schema_is_built_here_and_holds_no_python() -> None:
    base = pl.LazyFrame({"a": [1, 2], "s": ["x", "y"], "b": [3, 4]})
    lf = (
        base.pipe_with_schema(lambda t, schema: t.select(pl.col(n) * 2 for n, dtype in schema.items() if dtype.is_integer()))
        .pipe_with_schema(lambda t, schema: t.select(sorted(schema, reverse=True)))
        .filter(pl.col("a") > 2)
    )
    arena = Arena.decode(serialize(lf, max_plan_bytes=LIMIT))
    assert arena.python_functions() == []
    assert arena.lazy().collect().equals(pl.DataFrame({"b": [8], "a": [4]}))


def test_a_pipe_over_files_that_only_functions_can_read_is_left_alone(tmp_path: Path) -> None:
    lf = pl.scan_parquet(tmp_path / "missing.parquet").pipe_with_schema(lambda t, schema: t)
    assert "PipeWithSchema" in Arena.decode(serialize(lf, max_plan_bytes=LIMIT)).python_functions()


def test_a_table_that_pyarrow_reads_is_left_for_functions_to_ask(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": range(5)})
    frame.write_delta(tmp_path)
    plan = Arena.decode(serialize(pl.scan_delta(str(tmp_path), use_pyarrow=True), max_plan_bytes=1 << 20))
    assert plan.kind(plan.root) == "Scan"
    assert plan.lazy().collect().equals(frame)
