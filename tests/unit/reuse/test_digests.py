"""What is in the digest of a task, and what is not; and what has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from polars.plugins import register_plugin_function

from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.purity import why_impure
from frazil_coordinator.reuse.digests import Digests, TaskDigest
from frazil_coordinator.schedule.bind import bind_stage, output_for
from frazil_coordinator.settings import Settings
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.arena import Arena
from frazil_functions.ids import QueryId, TaskIndex
from frazil_functions.task import BlockRef, ExchangeInput, ScanInput, TaskInput, TaskRequest

SETTINGS = Settings(reuse="tasks", start_small=False)


def write(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(exist_ok=True)
    pl.DataFrame({"k": [n % 3 for n in range(20)], "v": [n * seed for n in range(20)]}).write_parquet(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        write(tmp_path / "t", f"f{number}.parquet", number + 1)
    return tmp_path / "t"


def groups(folder: Path) -> pl.LazyFrame:
    return pl.scan_parquet(folder / "*.parquet").group_by("k").agg(pl.col("v").sum()).sort("k")


def requests(graph: StageGraph, *, query: str = "q", settings: Settings = SETTINGS) -> list[TaskRequest]:
    """Return what the tasks of the first stage are told."""
    stage = graph.stages[0]
    return [
        TaskRequest(
            query=QueryId(query),
            stage=stage.id,
            task=TaskIndex(task),
            attempt=0,
            fragment=stage.fragment,
            inputs=inputs,
            output=output_for(stage, task, query=QueryId(query), settings=settings, exchange_prefix="x"),
            polars_version=pl.__version__,
            protocol_version=PROTOCOL_VERSION,
        )
        for task, inputs in enumerate(bind_stage(stage, {}, graph))
    ]


def digest(request: TaskRequest) -> TaskDigest | None:
    return Digests(lambda key: key.startswith("kept/")).of(request, request.fragment)


def digests(lf: pl.LazyFrame, **changes: Any) -> list[str]:
    found = [digest(one) for one in requests(plan_query(lf.serialize(), SETTINGS), **changes)]
    assert all(one is not None for one in found)
    return [one.task for one in found if one is not None]


def test_the_same_tasks_of_another_query_have_the_same_digests(folder: Path) -> None:
    first = digests(groups(folder), query="one")
    assert len(set(first)) == 4
    assert digests(groups(folder), query="two") == first
    other = Settings(reuse="tasks", start_small=False, inline_limit_bytes=7, max_attempts=9, heartbeat_s=1.0)
    assert digests(groups(folder), settings=other) == first, "what changes no answer is in no digest"


def test_a_file_that_is_added_changes_no_digest_wherever_it_comes(folder: Path) -> None:
    before = digests(groups(folder))
    write(folder, "f1b.parquet", 9)
    after = digests(groups(folder))
    assert len(after) == 5
    assert [one for one in after if one in before] == before


def test_a_file_that_is_replaced_has_another_digest_and_no_other_has(folder: Path) -> None:
    before = digests(groups(folder))
    write(folder, "f2.parquet", 77)
    assert [old == new for old, new in zip(before, digests(groups(folder)), strict=True)] == [True, True, False, True]


@pytest.mark.parametrize(
    "other",
    [
        lambda lf: lf.group_by("k").agg(pl.col("v").max()),
        lambda lf: lf.filter(pl.col("v") > 1).group_by("k").agg(pl.col("v").sum()),
        lambda lf: lf.group_by("v").agg(pl.col("k").sum()),
    ],
    ids=["another aggregate", "a filter", "other keys"],
)
def test_other_work_has_other_digests(folder: Path, other: Callable[[pl.LazyFrame], pl.LazyFrame]) -> None:
    scan = pl.scan_parquet(folder / "*.parquet")
    plain = digests(scan.group_by("k").agg(pl.col("v").sum()))
    assert not set(plain) & set(digests(other(scan)))


def test_the_way_an_output_is_written_is_in_the_digest_and_its_place_is_not(folder: Path) -> None:
    (request, *_) = requests(plan_query(groups(folder).serialize(), SETTINGS))
    known = digest(request)

    def with_output(**changes: Any) -> TaskDigest | None:
        return digest(msgspec.structs.replace(request, output=msgspec.structs.replace(request.output, **changes)))

    assert with_output(prefix="elsewhere", inline_limit_bytes=1) == known
    for changes in ({"partitions": 99}, {"codec": "ipc_lz4"}, {"kind": "broadcast"}, {"key_columns": ("k",)}):
        assert with_output(**changes) != known, changes


def test_rows_before_a_file_count_only_where_rows_are_numbered(folder: Path) -> None:
    def both() -> tuple[set[str], set[str]]:
        plain = pl.scan_parquet(folder / "*.parquet").select("v")
        numbered = pl.scan_parquet(folder / "*.parquet", row_index_name="n").select("n", "v")
        return set(digests(plain)), set(digests(numbered))

    plain, numbered = both()
    write(folder, "a.parquet", 5)
    plain_after, numbered_after = both()
    assert plain < plain_after
    assert not numbered & numbered_after


def test_the_number_of_a_task_counts_only_where_its_rows_are_tagged_with_it(folder: Path) -> None:
    (request, *_) = requests(plan_query(groups(folder).serialize(), SETTINGS))
    tagged = msgspec.structs.replace(request, output=msgspec.structs.replace(request.output, row_tag=True))
    assert digest(msgspec.structs.replace(request, task=TaskIndex(3))) == digest(request)
    assert digest(msgspec.structs.replace(tagged, task=TaskIndex(3))) != digest(tagged)


def test_a_file_without_an_etag_has_no_digest(folder: Path) -> None:
    (request, *_) = requests(plan_query(groups(folder).serialize(), SETTINGS))
    (given,) = request.inputs
    assert isinstance(given, ScanInput)
    splits = tuple(msgspec.structs.replace(split, etag=None) for split in given.splits)
    assert digest(msgspec.structs.replace(request, inputs=(msgspec.structs.replace(given, splits=splits),))) is None


def block(key: str = "", data: bytes | None = None, **changes: Any) -> ExchangeInput:
    values: dict[str, Any] = {"offset": 0, "length": 3, "rows": 1, "crc32c": 7, "codec": "ipc", "map_index": 0}
    return ExchangeInput(blocks=(BlockRef(key=key, data=data, **{**values, **changes}),))


def test_a_block_is_known_by_its_object_and_only_when_that_stays(folder: Path) -> None:
    (request, *_) = requests(plan_query(groups(folder).serialize(), SETTINGS))

    def reading(given: TaskInput) -> TaskDigest | None:
        return digest(msgspec.structs.replace(request, inputs=(given,)))

    known = reading(block("kept/a/0-x"))
    assert known is not None
    assert reading(block("kept/a/0-x", map_index=5)) == known, "the number of the task that wrote it"
    assert reading(block("kept/a/0-y")) != known, "another execution may have written other bytes"
    assert reading(block("kept/a/0-x", offset=8)) != known
    assert reading(block("x/q/0/0-x")) is None, "gone when its query ends"
    assert reading(block(data=b"abc")) == reading(block("anything", data=b"abc"))
    assert reading(block(data=b"abc")) != reading(block(data=b"abd"))


BASE = pl.LazyFrame({"a": [1, 2, 3]})
PURE = {
    "a sample with a seed": BASE.select(pl.col("a").sample(2, seed=1)),
    "a shuffle with a seed": BASE.select(pl.col("a").shuffle(seed=1)),
    "a rank": BASE.select(pl.col("a").rank()),
    "a random rank with a seed": BASE.select(pl.col("a").rank("random", seed=1)),
    "a hash": BASE.select(pl.col("a").hash()),
}
IMPURE = {
    "sample": BASE.select(pl.col("a").sample(2)),
    "shuffle": BASE.with_columns(b=pl.col("a").shuffle() + 1),
    "rank": BASE.select(pl.col("a").rank("random")),
    "Python code": BASE.select(pl.col("a").map_batches(lambda a: a, return_dtype=pl.Int64)),
}


@pytest.mark.parametrize("name", PURE)
def test_what_always_gives_the_same_is_pure(name: str) -> None:
    assert why_impure(Arena.of(PURE[name])) is None


@pytest.mark.parametrize("name", IMPURE)
def test_what_may_differ_is_impure_and_says_why(name: str) -> None:
    assert name in (why_impure(Arena.of(IMPURE[name].filter(pl.first() > 0))) or "")


def test_a_random_rank_over_a_window_of_rows_is_impure() -> None:
    windows = BASE.select(pl.col("a").rolling_rank(2, "random"))
    assert "random" in (why_impure(Arena.of(windows)) or "")
    assert why_impure(Arena.of(BASE.select(pl.col("a").rolling_rank(2, "random", seed=1)))) is None


def test_a_plugin_is_impure_whatever_it_says_of_itself(tmp_path: Path) -> None:
    (tmp_path / "plugin.so").write_bytes(b"code")
    called = register_plugin_function(plugin_path=tmp_path / "plugin.so", function_name="f", args=[pl.col("a")])
    assert "plugin" in (why_impure(Arena.of(BASE.with_columns(called))) or "")


def test_a_scan_that_runs_whole_inside_of_a_fragment_is_impure(folder: Path) -> None:
    assert "not split" in (why_impure(Arena.of(pl.scan_parquet(folder / "*.parquet"))) or "")


def test_explain_says_what_is_never_reused(folder: Path) -> None:
    lf = pl.scan_parquet(folder / "*.parquet").filter(pl.col("v").shuffle() > 2)
    details = [stage.details for stage in plan_query(lf.serialize(), SETTINGS).stages]
    assert any("shuffle" in one.get("never reused", "") for one in details)
    first = plan_query(pl.scan_parquet(folder / "*.parquet").head(30).serialize(), SETTINGS)
    assert any("rows enough" in stage.details.get("never reused", "") for stage in first.stages)
    quiet = plan_query(lf.serialize(), Settings(start_small=False))
    assert not any("never reused" in stage.details for stage in quiet.stages)
