"""Two levels of an exchange: when blocks are copied first, how the copies lie, and what requests it takes."""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from pathlib import Path

import msgspec
import polars as pl
import pytest

from frazil_coordinator.plan.combining import combined_above, with_combiners
from frazil_coordinator.plan.explain import explain_text
from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec, StageGraph
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.plan.report import planned_report
from frazil_coordinator.schedule.arms import Fragments
from frazil_coordinator.schedule.combine import lay_out_combiners, moved_places
from frazil_coordinator.schedule.layout import Layout
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.errors import InternalError
from frazil_functions.ids import StageId
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockInfo, BlockRef, Descriptor, ExchangeInput
from support.in_stages import answer_in_stages
from support.parity import assert_same
from support.scripted import graph_of, stage_of

SIDE = 36
ROOT = isqrt(SIDE)
KEYS = 300
COMBINED = Settings(
    start_small=False,
    max_rows_per_split=KEYS,
    shuffle_partitions=SIDE,
    broadcast_limit_bytes=0,
    inline_limit_bytes=0,
    two_level_requests=SIDE * SIDE - 1,
)
PRODUCER, COMBINER, READER = StageId(0), StageId(1), StageId(2)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pl.LazyFrame:
    """Return a table of 36 splits, each with rows for every partition."""
    path = tmp_path_factory.mktemp("combine") / "t.parquet"
    rows = range(SIDE * KEYS)
    pl.DataFrame({"id": rows, "k": [n % KEYS for n in rows], "x": [n * 7919 % 997 for n in rows]}).write_parquet(
        path, row_group_size=KEYS
    )
    return pl.scan_parquet(path)


def run(query: pl.LazyFrame, settings: Settings, place: Path, *, ordered: bool) -> tuple[list[Layout], dict[str, int]]:
    """Run a query, compare its answer with that of Polars, and return layouts and requests."""
    store = CountingStore(FolderStore(place))
    layouts: list[Layout] = []
    answer = answer_in_stages(query, settings, store, layouts=layouts)
    assert_same(answer, query.collect(), ordered=ordered)
    return layouts, store.requests


def test_a_shuffle_in_two_levels_costs_the_requests_of_the_docs(table: pl.LazyFrame, tmp_path: Path) -> None:
    query = table.group_by("k").agg(pl.col("x").median(), pl.col("id"))
    layouts, requests = run(query, COMBINED, tmp_path, ordered=False)
    assert [(layout.stage.kind, len(layout.order)) for layout in layouts] == [
        ("scan", SIDE), ("combine", ROOT * ROOT), ("group_by", SIDE),
    ]  # fmt: skip
    # The answer itself is read from an object a task. In one level it would be SIDE * SIDE + SIDE GETs.
    assert requests == {"put": SIDE + ROOT * ROOT + SIDE, "get": SIDE * ROOT + ROOT * SIDE + SIDE}
    assert layouts[2].notes == ("reads blocks that were combined",)


def test_a_sort_in_two_levels_reads_the_borders_of_its_ranges_from_the_same_objects(
    table: pl.LazyFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frazil_coordinator.schedule.combine._WORTH", 0)
    query = table.filter(pl.col("id") < 9 * KEYS).sort("x", maintain_order=True)
    layouts, requests = run(query, replace(COMBINED, shuffle_partitions=9, two_level_requests=1), tmp_path, ordered=True)
    combine, ranges = layouts[1], layouts[2]
    tasks = len(ranges.order)
    assert (combine.stage.kind, len(combine.order), tasks) == ("combine", 9, 9)
    # The first range of a group has its lower border among the blocks of the group before.
    assert requests["get"] <= 9 * 3 + 3 * (tasks + 2) + tasks


def test_a_join_combines_both_sides_apart(table: pl.LazyFrame, tmp_path: Path) -> None:
    query = table.join(table.select("k", y="id").filter(pl.col("y") % 3 == 0), on="k", how="full").select(pl.len())
    layouts, requests = run(query, COMBINED, tmp_path, ordered=False)
    (combine,) = [layout for layout in layouts if layout.stage.kind == "combine" and layout.order]
    assert len(combine.order) == 2 * ROOT * ROOT
    assert requests["get"] < SIDE * SIDE


def test_nothing_is_combined_within_the_budget(table: pl.LazyFrame, tmp_path: Path) -> None:
    query = table.group_by("k").agg(pl.col("x").median())
    allowed = replace(COMBINED, two_level_requests=SIDE * SIDE, two_level_block_bytes=0)
    assert [stage.kind for stage in plan_query(query.serialize(), allowed).stages] == ["scan", "group_by"]
    few = table.filter(pl.col("k") < 9).group_by("k").agg(pl.col("x").median())
    layouts, _ = run(few, replace(COMBINED, two_level_block_bytes=0), tmp_path, ordered=False)
    assert [(layout.stage.kind, len(layout.order)) for layout in layouts[:2]] == [("scan", SIDE), ("combine", 0)]
    assert "not needed" in layouts[1].notes[0]


# Layouts by themselves


def copied(layout: Layout) -> list[tuple[BlockRef, ...]]:
    """Return what each combiner copies."""
    return [given.blocks for share in layout.shares for given in share.inputs if isinstance(given, ExchangeInput)]


def written(tasks: int, partitions: int, length: int) -> list[Descriptor]:
    """Return what tasks wrote: a block of so many bytes a partition."""
    return [
        Descriptor(
            key=f"m{task}",
            blocks=tuple(
                BlockInfo(partition=number, offset=8 + number * length, length=length, rows=1, crc32c=task, codec="ipc")
                for number in range(partitions)
            ),
        )
        for task in range(tasks)
    ]


def graph(tasks: int, partitions: int) -> StageGraph:
    produced = ExchangeSpec(kind="hash", partitions=partitions)
    reader = stage_of(1, partitions, ExchangeSource(stage=PRODUCER, read="partition"))
    return replace(
        graph_of(stage_of(0, tasks, output=produced)),
        stages=with_combiners((stage_of(0, tasks, output=produced), reader), 1),
    )


def combiners(tasks: int, partitions: int, length: int, settings: Settings) -> Layout:
    plan = graph(tasks, partitions)
    descriptors = {PRODUCER: written(tasks, partitions, length)}
    return lay_out_combiners(plan.stages[COMBINER], descriptors, plan, replace(settings, coalesce_bytes=0), {})


def test_small_blocks_are_combined_within_the_budget_when_they_are_many() -> None:
    plenty = Settings()
    assert len(combiners(64, 64, 64 * 1024 - 1, plenty).order) == 64
    assert combiners(64, 64, 64 * 1024, plenty).order == ()
    assert combiners(64, 63, 100, plenty).order == ()
    assert combiners(64, 64, 100, replace(plenty, two_level_block_bytes=0)).order == ()
    assert combined_above(plenty) == 4096
    assert combined_above(replace(plenty, two_level_requests=None)) is None


def test_what_every_task_reads_is_combined_once() -> None:
    reader = stage_of(1, 100, ExchangeSource(stage=PRODUCER, read="all"))
    plan = replace(graph_of(reader), stages=with_combiners((stage_of(0, 100), reader), 1))
    descriptors = {PRODUCER: written(100, 1, 1000)}
    layout = lay_out_combiners(plan.stages[COMBINER], descriptors, plan, Settings(), {})
    assert [len(blocks) for blocks in copied(layout)] == [10] * 10
    assert "10,000 ranges of 1,000 bytes: copied with 110 requests, so that it asks for about 1,000" in layout.notes[0]


def test_a_combiner_is_given_no_more_than_fits_into_its_memory() -> None:
    bounded = replace(Settings(), two_level_requests=100, function_memory_bytes=192 * MIB)
    for settings, most in ((replace(bounded, function_memory_bytes=None), 64 * MIB), (bounded, 12.8 * MIB)):
        layout = combiners(25, 25, 5 * MIB, settings)
        sizes = [sum(block.length for block in blocks) for blocks in copied(layout)]
        assert sum(sizes) == 25 * 25 * 5 * MIB
        assert max(sizes) <= most
        assert len(layout.order) > 25


def test_copies_lie_in_the_order_in_which_they_are_read() -> None:
    layout = combiners(25, 25, 100, replace(Settings(), two_level_requests=600))
    assert len(layout.order) == 25
    first = copied(layout)[0]
    assert [(block.offset // 100, block.map_index) for block in first] == [(p, m) for p in range(5) for m in range(5)]


def test_combiners_for_a_union_of_many_stages_have_no_fragment_to_leave_something_out_of() -> None:
    sources = tuple(ExchangeSource(stage=StageId(number), read="all") for number in range(9))
    combine = replace(graph(2, 2).stages[COMBINER], sources=sources)
    assert Fragments().of_task(combine, (ExchangeInput(blocks=()),)) == (b"", None)


def test_a_task_that_copied_something_else_is_found_out() -> None:
    layout = combiners(25, 25, 100, replace(Settings(), two_level_requests=600))
    told = [
        Descriptor(
            key=f"c{task}",
            blocks=tuple(
                BlockInfo(partition=n, offset=n, length=100, rows=1, crc32c=block.crc32c, codec="ipc")
                for n, block in enumerate(blocks)
            ),
        )
        for task, blocks in enumerate(copied(layout))
    ]
    assert len(moved_places(layout, told)) == 25 * 25
    told[3] = msgspec.structs.replace(told[3], blocks=told[3].blocks[1:])
    with pytest.raises(InternalError, match="task 3 of stage 1"):
        moved_places(layout, told)


def test_explain_shows_the_combiners_and_the_numbers_of_the_stages_behind_them(table: pl.LazyFrame) -> None:
    query = table.group_by("id").agg(pl.col("x").median())
    text = explain_text(planned_report(plan_query(query.serialize(), COMBINED)))
    assert "STAGE 2 group_by" in text
    assert "STAGE 1 combine · 36 tasks" in text
    assert "has no task unless stage 2 would ask for too many" in text
    planned = plan_query(query.serialize(), COMBINED)
    assert planned.stages[READER].combiner == COMBINER
    combine, reader = planned.estimates[COMBINER], planned.estimates[READER]
    assert (combine.gets.value, combine.puts.value, reader.gets.value) == (SIDE * ROOT, ROOT * ROOT, SIDE * ROOT)
