"""Reading: order, projection, ranges of keys, early stop, damage; and the requests that it takes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from frazil_functions.errors import BlockError, CancelledQueryError, QueryError
from frazil_functions.exchange import reader as reader_module
from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockRef, ExchangeInput, KeyRange, Output, SortKey, TaskStats

SORT = (SortKey(column="k", descending=False, nulls_last=False),)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """Return a counting store in an empty folder."""
    return CountingStore(FolderStore(tmp_path))


def put(
    store: CountingStore, frame: pl.DataFrame, output: Output, key: str = "o", map_index: int = 0
) -> tuple[BlockRef, ...]:
    """Write one task's output and return its blocks."""
    writer = ExchangeWriter(output, store=store, key=key, map_index=map_index)
    writer.write(frame)
    return block_refs(writer.finish().descriptor(TaskStats()), map_index)


def numbered(rows: int, blocks: int, store: CountingStore, key: str = "o", **options: int) -> tuple[BlockRef, ...]:
    """Write a sorted frame ``k``, ``v`` in `blocks` blocks."""
    frame = pl.DataFrame({"k": range(rows), "v": [f"v{n}" for n in range(rows)]})
    limit = options.get("inline_limit_bytes", 0)
    return put(store, frame, Output(kind="range", partitions=blocks, sort_keys=SORT, inline_limit_bytes=limit), key)


def gets(store: CountingStore) -> int:
    """Return how many GETs there were."""
    return store.requests.get("get", 0)


def test_blocks_are_yielded_in_the_given_order(store: CountingStore) -> None:
    first, second, third = numbered(6, 3, store)
    frames = list(read_exchange(store, ExchangeInput(blocks=(third, first, second))))
    assert [frame["k"].to_list() for frame in frames] == [[4, 5], [0, 1], [2, 3]]


def test_neighbours_in_one_object_are_one_request(store: CountingStore) -> None:
    blocks = numbered(40, 8, store)
    assert pl.concat(read_exchange(store, ExchangeInput(blocks=blocks))).height == 40
    assert gets(store) == 1
    list(read_exchange(store, ExchangeInput(blocks=(blocks[1], blocks[5]))))
    assert gets(store) == 2


def test_a_gap_over_the_bound_is_not_read(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = numbered(40, 8, store)
    gap = blocks[5].offset - blocks[1].offset - blocks[1].length
    for bound, expected in ((gap, 1), (gap - 1, 2)):
        monkeypatch.setattr(reader_module, "_MAX_GAP_BYTES", bound)
        before = gets(store)
        list(read_exchange(store, ExchangeInput(blocks=(blocks[1], blocks[5]))))
        assert gets(store) - before == expected


def test_a_range_over_the_bound_goes_in_several_requests(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = numbered(1000, 2, store)
    monkeypatch.setattr(reader_module, "MAX_REQUEST_BYTES", 4096)
    whole = pl.concat(read_exchange(store, ExchangeInput(blocks=blocks)))
    assert whole["k"].to_list() == list(range(1000))
    assert gets(store) == sum(-(-block.length // 4096) for block in blocks)
    assert store.bytes["get"] == sum(block.length for block in blocks)


def test_inline_blocks_take_no_request_and_keep_their_place(store: CountingStore) -> None:
    stored = numbered(4, 2, store)
    inline = numbered(2, 1, store, inline_limit_bytes=1 << 20)
    blocks = (stored[0], *inline, stored[1])
    frames = list(read_exchange(store, ExchangeInput(blocks=blocks)))
    assert [frame["k"].to_list() for frame in frames] == [[0, 1], [0, 1], [2, 3]]
    assert gets(store) == 2
    assert list(read_exchange(store, ExchangeInput(blocks=()))) == []


def test_projection_predicate_and_their_columns(store: CountingStore) -> None:
    blocks = ExchangeInput(blocks=numbered(10, 2, store))
    found = pl.concat(read_exchange(store, blocks, with_columns=["v"], predicate=pl.col("k") % 2 == 0))
    assert_frame_equal(found, pl.DataFrame({"v": ["v0", "v2", "v4", "v6", "v8"]}))
    swapped = next(read_exchange(store, blocks, with_columns=["v", "k"]))
    assert swapped.columns == ["v", "k"]
    by_selector = pl.concat(read_exchange(store, blocks, with_columns=["v"], predicate=pl.selectors.integer() > 7))
    assert by_selector["v"].to_list() == ["v8", "v9"]
    with pytest.raises(QueryError, match="nope"):
        list(read_exchange(store, blocks, with_columns=["nope"]))


def test_no_columns_take_no_request_but_keep_the_rows(store: CountingStore) -> None:
    frames = list(read_exchange(store, ExchangeInput(blocks=numbered(10, 2, store)), with_columns=[]))
    assert [frame.shape for frame in frames] == [(5, 0), (5, 0)]
    assert gets(store) == 0


def test_a_row_limit_stops_early_and_fetches_no_more_than_it_needs(store: CountingStore) -> None:
    blocks = (*numbered(4, 2, store, "a"), *numbered(4, 1, store, "b"))
    for limit, rows, requests in ((0, 0, 0), (1, 1, 1), (2, 2, 1), (3, 3, 1), (5, 5, 2), (99, 8, 2), (1 << 70, 8, 2)):
        before = gets(store)
        found = list(read_exchange(store, ExchangeInput(blocks=blocks), n_rows=limit))
        assert sum(frame.height for frame in found) == rows
        assert gets(store) - before == requests
    limited = list(read_exchange(store, ExchangeInput(blocks=blocks), n_rows=3, predicate=pl.col("k") > 1))
    assert [frame["k"].to_list() for frame in limited] == [[2]]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_last", [False, True])
def test_ranges_of_keys_part_the_rows_and_need_no_projected_key(
    store: CountingStore, descending: bool, nulls_last: bool
) -> None:
    keys = (SortKey(column="k", descending=descending, nulls_last=nulls_last),)
    frame = pl.DataFrame({"k": [None, None, 1, 1, 1, 2, 2, 5, 5, 5, 9], "v": range(11)})
    frame = frame.sort("k", descending=descending, nulls_last=nulls_last, maintain_order=True)
    writer = ExchangeWriter(
        Output(kind="range", partitions=4, sort_keys=keys, inline_limit_bytes=0), store=store, key="o", map_index=0
    )
    writer.write(frame)
    written = writer.finish()
    lows = sorted({block.low for block in written.blocks if block.low is not None})
    blocks = block_refs(written.descriptor(TaskStats()), 0)
    bounds = [None, *lows, None]
    parts = []
    for low, high in itertools.pairwise(bounds):
        source = ExchangeInput(blocks=blocks, key_range=KeyRange(low=low, high=high), sort_keys=keys)
        for part in read_exchange(store, source, with_columns=["v"]):
            assert part.columns == ["v"]
            parts.append(part)
        first = list(read_exchange(store, source, with_columns=["v"], n_rows=1))
        assert sum(part.height for part in first) <= 1
    assert_frame_equal(pl.concat(parts), frame.select("v"))


def test_what_was_read_is_reported_by_block(store: CountingStore) -> None:
    blocks = numbered(10, 2, store)
    seen: list[tuple[int, int]] = []
    list(read_exchange(store, ExchangeInput(blocks=blocks), on_read=lambda rows, size: seen.append((rows, size))))
    assert seen == [(block.rows, block.length) for block in blocks]


def test_a_flipped_byte_is_a_block_error_that_names_object_and_offset(store: CountingStore, tmp_path: Path) -> None:
    blocks = numbered(10, 2, store)
    path = tmp_path / "o"
    data = bytearray(path.read_bytes())
    data[blocks[1].offset + 10] ^= 0xFF
    path.write_bytes(data)
    reading = read_exchange(store, ExchangeInput(blocks=blocks))
    assert next(reading).height == 5
    with pytest.raises(BlockError, match=f"block o at {blocks[1].offset} is corrupt") as caught:
        next(reading)
    assert caught.value.where == {"object": "o"}


def test_a_missing_and_a_torn_object_are_block_errors(store: CountingStore, tmp_path: Path) -> None:
    blocks = numbered(10, 2, store)
    (tmp_path / "o").write_bytes((tmp_path / "o").read_bytes()[: blocks[1].offset + 5])
    with pytest.raises(BlockError, match="object o ends before byte") as caught:
        list(read_exchange(store, ExchangeInput(blocks=blocks)))
    assert caught.value.where == {"object": "o"}
    store.delete(["o"])
    with pytest.raises(BlockError, match="object o is missing") as caught:
        list(read_exchange(store, ExchangeInput(blocks=blocks)))
    assert caught.value.where == {"object": "o"}


def test_a_damaged_inline_block_is_a_block_error(store: CountingStore) -> None:
    [block] = numbered(2, 1, store, inline_limit_bytes=1 << 20)
    wrong = msgspec.structs.replace(block, crc32c=block.crc32c ^ 1)
    with pytest.raises(BlockError, match="block inline at 0 is corrupt") as caught:
        list(read_exchange(store, ExchangeInput(blocks=(wrong,))))
    assert caught.value.where == {}


def test_a_cancelled_read_stops_before_the_next_block(store: CountingStore) -> None:
    blocks = (*numbered(4, 2, store, "a"), *numbered(4, 2, store, "b"))
    told = threading.Event()
    reading = read_exchange(store, ExchangeInput(blocks=blocks), cancelled=told.is_set)
    next(reading)
    told.set()
    with pytest.raises(CancelledQueryError):
        list(reading)


class HangingStore(FolderStore):
    """A store whose reads of one object wait until they are let go."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if key == "b":
            self.reached.set()
            self.let_go.wait(30)
        return super().get_range(key, start, length)


def test_a_cancel_is_seen_while_a_request_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_NOT_AHEAD_BYTES", 0)
    store = HangingStore(tmp_path)
    counting = CountingStore(store)
    blocks = (*numbered(4, 1, counting, "a"), *numbered(4, 1, counting, "b"))
    reading = read_exchange(store, ExchangeInput(blocks=blocks), cancelled=store.reached.is_set)
    try:
        with pytest.raises(CancelledQueryError):
            list(reading)
    finally:
        store.let_go.set()


def test_little_of_a_folder_is_read_without_threads(store: CountingStore) -> None:
    before = set(threading.enumerate())
    blocks = tuple(block for number in range(5) for block in numbered(2, 1, store, f"o{number}"))
    for _ in read_exchange(store, ExchangeInput(blocks=blocks)):
        assert set(threading.enumerate()) <= before


def test_closing_the_stream_early_starts_no_more_requests(store: CountingStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_NOT_AHEAD_BYTES", 0)
    monkeypatch.setattr(reader_module, "_PREFETCH_REQUESTS", 2)
    blocks = tuple(block for number in range(20) for block in numbered(2, 1, store, f"o{number}"))
    reading = read_exchange(store, ExchangeInput(blocks=blocks))
    next(reading)
    assert isinstance(reading, Iterator)
    del reading
    assert gets(store) <= 4


def test_prefetch_stays_within_its_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_NOT_AHEAD_BYTES", 0)
    monkeypatch.setattr(reader_module, "_PREFETCH_REQUESTS", 3)
    store = CountingStore(FolderStore(tmp_path))
    blocks = tuple(block for number in range(12) for block in numbered(2, 1, store, f"o{number}"))
    started: list[int] = []
    for count, _ in enumerate(read_exchange(store, ExchangeInput(blocks=blocks)), start=1):
        started.append(gets(store) - count)
    assert max(started) <= 3
    assert gets(store) == 12


@settings(max_examples=40, deadline=None)
@given(
    tasks=st.integers(1, 5),
    readers=st.integers(1, 6),
    rows=st.integers(0, 40),
)
def test_a_shuffle_moves_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, tasks: int, readers: int, rows: int
) -> None:
    store = CountingStore(FolderStore(tmp_path_factory.mktemp("store")))
    frame = pl.DataFrame({"k": [n * 7 % 11 for n in range(rows)], "v": range(rows)})
    output = Output(kind="hash", partitions=readers, hash_keys=(pl.col("k").meta.serialize(),), inline_limit_bytes=0)
    descriptors = []
    for task in range(tasks):
        writer = ExchangeWriter(output, store=store, key=f"t{task}", map_index=task)
        writer.write(frame.filter(pl.col("v") % tasks == task))
        descriptors.append(writer.finish().descriptor(TaskStats()))
    seen: list[pl.DataFrame] = []
    for partition in range(readers):
        blocks = tuple(ref for task, made in enumerate(descriptors) for ref in block_refs(made, task, partition))
        seen += read_exchange(store, ExchangeInput(blocks=blocks))
    whole = pl.concat([frame.clear(), *seen]).sort("v")
    assert_frame_equal(whole, frame)
    assert store.requests.get("put", 0) == sum(made.key is not None for made in descriptors)
    assert gets(store) == sum(len(made.blocks) for made in descriptors)


def test_neighbours_are_one_request_in_whatever_order_they_are_read(store: CountingStore) -> None:
    blocks = numbered(40, 8, store)
    mixed = (blocks[3], blocks[0], blocks[2], blocks[1])
    frames = list(read_exchange(store, ExchangeInput(blocks=mixed)))
    assert [frame["k"][0] for frame in frames] == [15, 0, 10, 5]
    assert gets(store) == 1


def test_two_objects_read_in_turn_are_a_request_each(store: CountingStore) -> None:
    one, other = numbered(40, 4, store), numbered(40, 4, store, "other")
    third = numbered(8, 1, store, "third", inline_limit_bytes=1 << 20)
    in_turn = [block for pair in zip(one, other, strict=True) for block in pair]
    frames = list(read_exchange(store, ExchangeInput(blocks=(*in_turn, *third, *one))))
    assert [frame["k"][0] for frame in frames] == [0, 0, 10, 10, 20, 20, 30, 30, 0, 0, 10, 20, 30]
    assert gets(store) == 3
