"""The memory bound of a task: 3 × factor × compressed bytes ≤ 0.6 × what its function has for it."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from frazil_coordinator.plan.memory import factor_of, usable_bytes, within_memory
from frazil_coordinator.plan.model import ScanSource, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.settings import MIB, Settings

ROWS, GROUPS = 20_000, 40


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    texts = [sha256(str(n).encode()).hexdigest() for n in range(ROWS)]
    pl.DataFrame({"k": range(ROWS), "s": texts}).write_parquet(path, row_group_size=ROWS // GROUPS)
    return path


def _plan(lf: pl.LazyFrame, **settings: object) -> StageGraph:
    return plan_query(lf.serialize(), Settings(**settings))  # type: ignore[arg-type]  # by name


def _scanned(graph: StageGraph) -> list[ScanSource]:
    return [source for stage in graph.stages for source in stage.sources if isinstance(source, ScanSource)]


QUERIES: dict[str, tuple[float, Callable[[pl.LazyFrame], pl.LazyFrame]]] = {
    "scan": (2.5, lambda t: t.filter(pl.col("k") > 3)),
    "group_by": (3.0, lambda t: t.group_by("k").agg(pl.col("s").first())),
    "sort": (3.5, lambda t: t.sort("s")),
    "join": (3.0, lambda t: t.join(t.select("k", other="s"), on="k")),
}


@pytest.mark.parametrize("name", QUERIES)
def test_split_and_partition_fit_the_function(table: Path, name: str) -> None:
    factor, build = QUERIES[name]
    lf = build(pl.scan_parquet(table))
    size = max(source.bytes for source in _scanned(_plan(lf)))
    memory = int(4 * 3 * factor * size / 8 / 0.6)  # an eighth of the table fits into the quarter that always counts
    graph = _plan(lf, function_memory_bytes=memory)
    for source in _scanned(graph):
        rows = max(sum(split.rows for split in group) for group in source.splits)
        assert 3 * factor * source.bytes * rows / ROWS <= usable_bytes(memory) * 1.02  # row groups differ a little
        assert len(source.splits) <= 11
    moved = sum(source.bytes for source in _scanned(graph))
    for stage in graph.stages:
        if stage.output.kind == "hash":
            assert 3 * factor * moved / stage.output.partitions <= usable_bytes(memory)


def test_small_query_is_one_task_only_while_it_fits(table: Path) -> None:
    lf = pl.scan_parquet(table).group_by("k").agg(pl.col("s").first())
    (source,) = _scanned(_plan(lf))
    fits = int(4 * 3 * 3 * source.bytes / 0.6) + 100
    assert [stage.tasks for stage in _plan(lf, function_memory_bytes=fits).stages] == [1]
    assert len(_plan(lf, function_memory_bytes=fits // 2).stages) > 1


def test_side_that_does_not_fit_is_not_broadcast(table: Path) -> None:
    t = pl.scan_parquet(table)
    lf = t.join(t.select("k", other="s"), on="k")
    size = max(source.bytes for source in _scanned(_plan(lf)))
    small = _plan(lf, start_small=False, split_target_bytes=size // 2)
    tight = _plan(lf, start_small=False, split_target_bytes=size // 2, function_memory_bytes=size * 40)
    assert {stage.output.kind for stage in small.stages} == {"broadcast", "single"}
    assert {stage.output.kind for stage in tight.stages} == {"hash", "single"}


def test_without_a_known_memory_nothing_is_lowered() -> None:
    assert within_memory(Settings(), {"Join"}) == Settings()


def test_settings_that_are_lower_already_are_kept() -> None:
    settings = Settings(function_memory_bytes=1024 * MIB, split_target_bytes=MIB)
    bounded = within_memory(settings, {"Join", "Scan"})
    assert bounded.split_target_bytes == MIB
    assert bounded.shuffle_target_bytes == int(0.6 * (1024 - 128) * MIB / 9)


def test_the_heaviest_operator_counts() -> None:
    assert factor_of({"Scan", "GroupBy", "Join", "Sort"}) == 3.5
    assert factor_of({"Scan", "Opaque"}) == 2.5
