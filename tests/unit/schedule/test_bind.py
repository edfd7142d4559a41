"""Binding a stage's inputs from descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_coordinator.plan.model import ExchangeSource, ExchangeSpec
from frazil_coordinator.schedule.bind import bind_stage, choose_splitters, output_for, query_prefixes, result_blocks
from frazil_coordinator.settings import Settings
from frazil_functions.errors import InternalError
from frazil_functions.ids import QueryId, StageId
from frazil_functions.task import BlockInfo, Descriptor, ExchangeInput, KeyRange, ScanInput, SortKey
from support.scripted import graph_of, stage_of

P0, P1 = StageId(0), StageId(1)
SORT = (SortKey(column="a", descending=False, nulls_last=False),)


def info(partition: int, offset: int = 0, length: int = 10, *, rows: int = 1, low: bytes | None = None) -> BlockInfo:
    return BlockInfo(partition=partition, offset=offset, length=length, rows=rows, crc32c=partition, codec="ipc", low=low)


def written(key: str, *blocks: BlockInfo) -> Descriptor:
    return Descriptor(key=key, blocks=blocks)


def exchange(bound: object) -> ExchangeInput:
    assert isinstance(bound, ExchangeInput)
    return bound


def test_a_task_scans_its_own_splits() -> None:
    stage = stage_of(0, 3)
    bound = bind_stage(stage, {}, graph_of(stage))
    assert [[split.path for split in inputs[0].splits] for inputs in bound if isinstance(inputs[0], ScanInput)] == [
        ["0.parquet"],
        ["1.parquet"],
        ["2.parquet"],
    ]


def test_a_scan_with_another_number_of_splits_than_tasks_is_refused() -> None:
    stage = stage_of(0, 2, *stage_of(0, 3).sources)
    with pytest.raises(InternalError, match="2 tasks"):
        bind_stage(stage, {}, graph_of(stage))


def test_a_partition_is_read_from_every_map_in_map_order() -> None:
    stage = stage_of(1, 3, ExchangeSource(stage=P0, read="partition"))
    maps = [written("m0", info(0), info(2, 10)), written("m1"), written("m2", info(0), info(0, 10), info(1, 20))]
    bound = bind_stage(stage, {P0: maps}, graph_of(stage_of(0, 3), stage))
    read = [[(ref.key, ref.offset, ref.map_index) for ref in exchange(inputs[0]).blocks] for inputs in bound]
    assert read == [[("m0", 0, 0), ("m2", 0, 2), ("m2", 10, 2)], [("m2", 20, 2)], [("m0", 10, 0)]]


def test_all_means_every_block_for_every_task_and_sources_keep_their_order() -> None:
    stage = stage_of(2, 2, ExchangeSource(stage=P1, read="all"), ExchangeSource(stage=P0, read="partition"))
    descriptors = {P0: [written("a", info(0), info(1, 10))], P1: [written("b", info(0)), written("c", info(0))]}
    bound = bind_stage(stage, descriptors, graph_of(stage_of(0, 1), stage_of(1, 2), stage))
    keys = [[[ref.key for ref in exchange(one).blocks] for one in inputs] for inputs in bound]
    assert keys == [[["b", "c"], ["a"]], [["b", "c"], ["a"]]]


def test_a_block_reference_carries_all_that_its_reader_needs() -> None:
    block = BlockInfo(partition=0, offset=5, length=7, rows=3, crc32c=99, codec="parquet_zstd")
    (ref,) = result_blocks([written("k", block)])
    assert (ref.key, ref.offset, ref.length, ref.rows, ref.crc32c, ref.codec, ref.map_index, ref.data) == (
        "k", 5, 7, 3, 99, "parquet_zstd", 0, None,
    )  # fmt: skip


def test_an_inline_block_carries_its_own_bytes() -> None:
    descriptor = Descriptor(key=None, blocks=(info(0, 0, 3), info(1, 3, 2)), inline=b"abcde")
    stage = stage_of(1, 2, ExchangeSource(stage=P0, read="partition"))
    bound = bind_stage(stage, {P0: [descriptor]}, graph_of(stage_of(0, 1), stage))
    assert [[ref.data for ref in exchange(inputs[0]).blocks] for inputs in bound] == [[b"abc"], [b"de"]]


def test_a_producer_that_wrote_nothing_gives_tasks_without_blocks() -> None:
    stage = stage_of(1, 2, ExchangeSource(stage=P0, read="partition"), ExchangeSource(stage=P0, read="range"))
    bound = bind_stage(stage, {P0: [Descriptor(key=None, blocks=())]}, graph_of(stage_of(0, 1), stage))
    assert [[exchange(one).blocks for one in inputs] for inputs in bound] == [[(), ()], [(), ()]]


def bind_ranges(maps: Sequence[Descriptor], tasks: int) -> list[ExchangeInput]:
    producer = stage_of(0, max(1, len(maps)), output=ExchangeSpec(kind="range", sort_keys=SORT))
    stage = stage_of(1, tasks, ExchangeSource(stage=P0, read="range"))
    return [exchange(inputs[0]) for inputs in bind_stage(stage, {P0: maps}, graph_of(producer, stage))]


def test_ranges_cut_the_rows_into_about_equal_parts_and_name_the_sort_keys() -> None:
    maps = [written("m", *(info(n, rows=10, low=bytes([n])) for n in range(12)))]
    bound = bind_ranges(maps, 3)
    assert [one.key_range for one in bound] == [
        KeyRange(low=None, high=b"\x04"),
        KeyRange(low=b"\x04", high=b"\x08"),
        KeyRange(low=b"\x08", high=None),
    ]
    assert all(one.sort_keys == SORT for one in bound)
    assert [[ref.crc32c for ref in one.blocks] for one in bound] == [
        [0, 1, 2, 3],
        [3, 4, 5, 6, 7],
        [7, 8, 9, 10, 11],
    ]


def test_one_task_reads_all_and_filters_nothing() -> None:
    (only,) = bind_ranges([written("m", info(0, low=b"a"), info(1, low=b"b"))], 1)
    assert only.key_range is None
    assert len(only.blocks) == 2


def test_keys_that_are_all_equal_go_to_one_task_and_the_others_get_no_blocks() -> None:
    bound = bind_ranges([written("m", *(info(n, low=b"same") for n in range(5)))] * 2, 4)
    assert [len(one.blocks) for one in bound] == [10, 0, 0, 0]


def test_sources_of_one_stage_are_cut_at_the_same_keys() -> None:
    output = ExchangeSpec(kind="range", sort_keys=SORT)
    stage = stage_of(2, 2, *(ExchangeSource(stage=number, read="range") for number in (P0, P1)))
    graph = graph_of(stage_of(0, 1, output=output), stage_of(1, 1, output=output), stage)
    descriptors = {
        P0: [written("a", info(0, rows=5, low=b"a"), info(1, rows=5, low=b"c"))],
        P1: [written("b", info(0, rows=100, low=b"b"), info(1, rows=100, low=b"d"))],
    }
    for left, right in bind_stage(stage, descriptors, graph):
        assert exchange(left).key_range == exchange(right).key_range is not None


keys = st.binary(max_size=2)
runs = st.lists(st.lists(keys, max_size=30).map(sorted), max_size=5)


@given(runs=runs, block_rows=st.integers(1, 5), tasks=st.integers(1, 7))
def test_every_row_is_read_by_exactly_one_task_and_tasks_ascend(
    runs: list[list[bytes]], block_rows: int, tasks: int
) -> None:
    blocks = {
        (f"m{index}", number): run[start : start + block_rows]
        for index, run in enumerate(runs)
        for number, start in enumerate(range(0, len(run), block_rows))
    }
    maps = [
        written(
            f"m{index}",
            *(
                info(number, number, rows=len(rows), low=rows[0])
                for (key, number), rows in blocks.items()
                if key == f"m{index}"
            ),
        )
        for index in range(len(runs))
    ]
    read: list[list[bytes]] = []
    for one in bind_ranges(maps, tasks):
        low = one.key_range.low if one.key_range is not None else None
        high = one.key_range.high if one.key_range is not None else None
        rows = [row for ref in one.blocks for row in blocks[ref.key, ref.offset]]
        read.append(sorted(row for row in rows if (low is None or row >= low) and (high is None or row < high)))
    assert [row for part in read for row in part] == sorted(row for run in runs for row in run)


@given(lows=st.lists(st.integers(0, 1000), min_size=50, max_size=200, unique=True), parts=st.integers(2, 5))
def test_no_range_of_distinct_keys_is_much_larger_than_its_share(lows: list[int], parts: int) -> None:
    blocks = [info(0, rows=7, low=low.to_bytes(2)) for low in lows]
    splitters = choose_splitters(blocks, parts)
    assert len(splitters) == parts - 1
    ends = [b"", *splitters, b"\xff\xff\xff"]
    sizes = [
        sum(block.rows for block in blocks if block.low is not None and low <= block.low < high)
        for low, high in pairwise(ends)
    ]
    assert max(sizes) <= sum(sizes) / parts + 7


def test_an_output_lies_under_the_one_prefix_of_its_query() -> None:
    (prefix,) = query_prefixes("exchange/", QueryId("q1"))
    stage = stage_of(4, 2)
    output = output_for(stage, 1, query=QueryId("q1"), settings=Settings(), exchange_prefix="exchange/")
    assert output.prefix == f"{prefix}4/1"
    root, digits, query, end = prefix.split("/")
    assert (root, len(digits), query, end) == ("exchange", 2, "q1", "")
    assert query_prefixes("", QueryId("q1")) == (f"{digits}/q1/",)


def test_an_output_says_how_to_write() -> None:
    spec = ExchangeSpec(kind="hash", partitions=8, hash_keys=(b"k",), sort_keys=SORT, row_tag=True)
    output = output_for(
        stage_of(0, 2, output=spec), 0, query=QueryId("q"), settings=Settings(codec="ipc_lz4"), exchange_prefix="x"
    )
    assert (output.kind, output.partitions, output.hash_keys, output.sort_keys, output.row_tag, output.codec) == (
        "hash", 8, (b"k",), SORT, True, "ipc_lz4",
    )  # fmt: skip


@pytest.mark.parametrize(("inline", "tasks", "expected"), [(True, 2, 100), (True, 50, 20), (True, 5000, 0), (False, 2, 0)])
def test_the_inline_limit_is_lowered_to_the_tasks_share_of_its_stage(inline: bool, tasks: int, expected: int) -> None:
    settings = Settings(inline_limit_bytes=100, inline_stage_limit_bytes=1000)
    stage = stage_of(0, tasks, output=ExchangeSpec(kind="single", inline=inline))
    output = output_for(stage, 0, query=QueryId("q"), settings=settings, exchange_prefix="x")
    assert output.inline_limit_bytes == expected
