"""What an engine does with ``lf.sink_*``: a plan that ends in the sink, or the rows brought here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import frazil
from frazil_functions.arena import Arena
from support.sessions import FakeSession


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def engine(session: FakeSession) -> frazil.Engine:
    return frazil.Engine(session)


def query(rows: int = 5) -> pl.LazyFrame:
    return pl.LazyFrame({"x": range(rows), "s": [f"s{n}" for n in range(rows)]})


def sent(session: FakeSession) -> dict[str, Any]:
    """Return the payload of the sink at the end of the plan that was sent."""
    arena = Arena.decode(session.plans["q0"])
    assert arena.kind(arena.root) == "Sink"
    return cast("dict[str, Any]", arena.payload(arena.root)["payload"])


@pytest.mark.parametrize(("name", "kind"), [("parquet", "Parquet"), ("csv", "Csv"), ("ipc", "Ipc"), ("ndjson", "NDJson")])
def test_a_sink_is_a_query_whose_plan_ends_in_it_with_an_absolute_path(
    engine: frazil.Engine,
    session: FakeSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    kind: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    getattr(query(), f"sink_{name}")(f"x.{name}", engine=engine)
    file = sent(session)["File"]
    assert file["target"] == {"inner": str(tmp_path / f"x.{name}")}
    assert list(file["file_format"]) == [kind]


def test_every_option_travels_in_the_plan(engine: frazil.Engine, session: FakeSession, tmp_path: Path) -> None:
    query().sink_parquet(
        tmp_path / "x.parquet",
        engine=engine,
        compression="gzip",
        compression_level=3,
        row_group_size=2,
        maintain_order=False,
        metadata={"a": "b"},
        mkdir=True,
        sync_on_close="data",
    )
    file = sent(session)["File"]
    parquet, common = file["file_format"]["Parquet"], file["unified_sink_args"]
    assert parquet["compression"] == {"Gzip": 3}
    assert parquet["row_group_size"] == 2
    assert parquet["key_value_metadata"] == {"Static": [["a", "b"]]}
    assert (common["maintain_order"], common["mkdir"], common["sync_on_close"]) == (False, True, "Data")


def test_a_folder_that_exists_is_a_target_like_one_that_does_not(
    engine: frazil.Engine, session: FakeSession, tmp_path: Path
) -> None:
    session.error = frazil.PlanError("not run in this test")
    with pytest.raises(frazil.PlanError, match="not run"):
        query().sink_parquet(f"{tmp_path}/", engine=engine)
    assert sent(session)["File"]["target"] == {"inner": f"file://{tmp_path}/"}


def test_a_lazy_sink_answers_with_the_empty_frame_of_polars(engine: frazil.Engine, tmp_path: Path) -> None:
    answer = query().sink_csv(tmp_path / "x.csv", lazy=True).collect(engine=engine)
    assert_frame_equal(answer, pl.DataFrame())


def test_the_provider_that_polars_adds_for_s3_is_left_out_and_the_options_are_kept(
    engine: frazil.Engine, session: FakeSession
) -> None:
    session.error = frazil.PlanError("not run in this test")
    options = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_region": "here"}
    with pytest.raises(frazil.PlanError, match="not run"):
        query().sink_parquet("s3://bucket/x.parquet", storage_options=options, engine=engine)
    cloud = sent(session)["File"]["unified_sink_args"]["cloud_options"]
    assert cloud["credential_provider"] is None
    assert cloud["config"] == {"Aws": [["AccessKeyId", "a"], ["SecretAccessKey", "b"], ["Region", "here"]]}


def _provider(_: object) -> str:
    return "name"


@pytest.mark.parametrize(
    "sink",
    [
        lambda e: (
            query().sink_parquet(pl.PartitionBy("/x", key="x", file_path_provider=_provider), lazy=True).collect(engine=e)
        ),
        lambda e: query().sink_parquet("/x", sinked_paths_callback=_provider, lazy=True).collect(engine=e),  # type: ignore[call-overload]  # any callable does
        lambda e: query().sink_parquet("/x", metadata=_provider, lazy=True).collect(engine=e),  # type: ignore[call-overload]  # as above
        lambda e: query().sink_batches(_provider, lazy=True).collect(engine=e),  # type: ignore[call-overload]  # any callable does
    ],
    ids=["file_path_provider", "sinked_paths_callback", "metadata", "a lazy sink_batches"],
)
def test_python_in_a_lazy_sink_is_refused_with_advice_and_nothing_is_sent(
    engine: frazil.Engine, session: FakeSession, sink: Any
) -> None:
    with pytest.raises(frazil.PythonPlanError, match="engine='streaming'"):
        sink(engine)
    assert session.calls == []


def test_files_that_a_function_names_are_written_here(engine: frazil.Engine, session: FakeSession, tmp_path: Path) -> None:
    session.shares_files = False
    named = pl.PartitionBy(tmp_path, key="s", file_path_provider=lambda args: f"{args.partition_keys.item()}.csv")
    query(3).sink_csv(named, engine=engine)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"s{n}.csv": f"x,s\n{n},s{n}\n" for n in range(3)
    }


def test_a_function_is_told_of_the_files_that_are_written_here(engine: frazil.Engine, tmp_path: Path) -> None:
    told: list[Any] = []
    query().sink_parquet(tmp_path / "x.parquet", sinked_paths_callback=told.append, engine=engine)
    assert [(path.path, path.num_rows) for (call,) in [told] for path in call.paths] == [(str(tmp_path / "x.parquet"), 5)]


@pytest.mark.parametrize("target", ["x.parquet", "/tmp/x.parquet", "/tmp/lake/"])
def test_a_path_is_refused_where_the_coordinator_is_on_another_machine(
    engine: frazil.Engine, session: FakeSession, target: str
) -> None:
    session.shares_files = False
    with pytest.raises(frazil.PlanError, match="s3://"):
        query().sink_parquet(target, engine=engine)
    assert session.calls == []


def test_the_url_of_a_path_names_the_coordinators_own(engine: frazil.Engine, session: FakeSession, tmp_path: Path) -> None:
    session.shares_files = False
    query().sink_parquet(f"file://{tmp_path}/x.parquet", engine=engine)
    assert sent(session)["File"]["target"] == {"inner": f"file://{tmp_path}/x.parquet"}


def test_a_coordinator_is_taken_to_be_here_by_its_address() -> None:
    for url, here in {"http://127.0.0.1:8080": True, "http://localhost": True, "https://frazil.example.org": False}.items():
        with frazil.connect(url) as remote:
            assert remote._session.shares_files is here


@pytest.mark.parametrize("name", ["parquet", "csv", "ipc", "ndjson"])
def test_a_buffer_is_written_here_with_the_bytes_of_polars(engine: frazil.Engine, name: str) -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    getattr(query(), f"sink_{name}")(ours, engine=engine)
    getattr(query(), f"sink_{name}")(theirs, engine="streaming")
    assert ours.getvalue() == theirs.getvalue()


def test_batches_go_to_a_function_in_frames_of_the_size_that_was_asked_for(engine: frazil.Engine) -> None:
    heights: list[int] = []
    query(8).sink_batches(lambda frame: heights.append(frame.height), chunk_size=3, engine=engine)
    assert heights == [3, 3, 2]


def test_a_function_that_has_enough_ends_its_query(engine: frazil.Engine, session: FakeSession) -> None:
    seen: list[int] = []

    def first(frame: pl.DataFrame) -> bool:
        seen.append(frame.height)
        return True

    query(8).sink_batches(first, chunk_size=3, engine=engine)
    assert seen == [3]
    assert session.calls[-1] == "cancel q0"


def test_what_a_function_raises_comes_out_and_ends_its_query(engine: frazil.Engine, session: FakeSession) -> None:
    def fails(frame: pl.DataFrame) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        query(8).sink_batches(fails, engine=engine)
    assert session.calls[-1] == "cancel q0"
