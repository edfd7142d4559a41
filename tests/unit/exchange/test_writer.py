"""Writing: one object or inline bytes, and what the descriptor says of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from frazil_functions.errors import InternalError, StorageFullError
from frazil_functions.exchange import writer as writer_module
from frazil_functions.exchange.codec import encode_block
from frazil_functions.exchange.format import HEADER, block_refs, read_footer
from frazil_functions.exchange.partition import row_encode
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter, WrittenOutput
from frazil_functions.storage import FolderStore, Store
from frazil_functions.task import ROW_TAG_COLUMNS, Codec, ExchangeInput, Output, SortKey, TaskStats

KEYS = (pl.col("k").meta.serialize(),)
SORT = (SortKey(column="k", descending=False, nulls_last=False),)
FRAME = pl.DataFrame({"k": [3, 1, None, 1, 2, 3], "v": ["a", "b", "c", "d", "e", "f"]})
PLAIN = Output(kind="single", inline_limit_bytes=0)


def write(store: Store, output: Output, *frames: pl.DataFrame, key: str = "q/0/0-x", map_index: int = 0) -> WrittenOutput:
    """Write one task's output."""
    writer = ExchangeWriter(output, store=store, key=key, map_index=map_index)
    for frame in frames:
        writer.write(frame)
    return writer.finish()


def read(store: Store, written: WrittenOutput, partition: int | None = None) -> list[pl.DataFrame]:
    """Read blocks back."""
    blocks = block_refs(written.descriptor(TaskStats()), 0, partition)
    return list(read_exchange(store, ExchangeInput(blocks=blocks)))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Return a store in an empty folder."""
    return FolderStore(tmp_path / "store")


def test_hash_blocks_are_back_to_back_in_the_order_of_partitions_and_only_the_non_empty(store: FolderStore) -> None:
    written = write(store, Output(kind="hash", partitions=64, hash_keys=KEYS, inline_limit_bytes=0), FRAME, FRAME)
    assert written.key == "q/0/0-x"
    assert written.inline is None
    assert 2 <= len(written.blocks) <= 4
    assert [block.partition for block in written.blocks] == sorted({block.partition for block in written.blocks})
    end = len(HEADER)
    for block in written.blocks:
        assert (block.offset, block.low) == (end, None)
        end += block.length
    assert sum(block.rows for block in written.blocks) == written.rows == 12
    [info] = store.list("")
    assert (info.key, info.size) == ("q/0/0-x", written.bytes)
    footer = read_footer(store, "q/0/0-x")
    assert footer.infos() == written.blocks
    assert (footer.kind, footer.map_index, footer.rows, footer.raw_bytes) == ("hash", 0, 12, written.raw_bytes)


def test_rows_keep_their_order_inside_a_partition_over_batches(store: FolderStore) -> None:
    batches = [pl.DataFrame({"k": [1, 2, 1], "v": [3 * n, 3 * n + 1, 3 * n + 2]}) for n in range(4)]
    written = write(store, Output(kind="hash", partitions=8, hash_keys=KEYS), *batches)
    for block in {block.partition for block in written.blocks}:
        for frame in read(store, written, block):
            assert frame["v"].is_sorted()


def test_small_output_travels_inline_and_nothing_is_put(store: FolderStore) -> None:
    written = write(store, Output(kind="hash", partitions=4, hash_keys=KEYS, inline_limit_bytes=1 << 20), FRAME)
    assert written.key is None
    assert written.inline is not None
    assert written.bytes == len(written.inline) == sum(block.length for block in written.blocks)
    assert written.blocks[0].offset == 0
    assert store.list("") == []
    assert_frame_equal(pl.concat(read(store, written)).sort("v"), FRAME)


def test_the_inline_limit_is_exact(store: FolderStore) -> None:
    size = write(store, Output(kind="single", inline_limit_bytes=1 << 20), FRAME).bytes
    assert write(store, Output(kind="single", inline_limit_bytes=size), FRAME).inline is not None
    assert write(store, Output(kind="single", inline_limit_bytes=size - 1), FRAME).inline is None


@pytest.mark.parametrize("kind", ["hash", "range", "broadcast", "single"])
def test_without_rows_nothing_is_written(store: FolderStore, kind: str) -> None:
    output = Output(kind=kind, partitions=3, hash_keys=KEYS, sort_keys=SORT)  # type: ignore[arg-type]  # of the closed set
    for frames in ([], [FRAME.clear()]):
        written = write(store, output, *frames)
        assert written == WrittenOutput(key=None, blocks=(), inline=None, rows=0, raw_bytes=0, bytes=0)
    assert store.list("") == []


def test_rows_without_columns_are_counted_and_come_back(store: FolderStore) -> None:
    for limit in (0, 1 << 20):
        written = write(
            store, Output(kind="single", inline_limit_bytes=limit), pl.DataFrame(height=3), pl.DataFrame(height=4)
        )
        assert [frame.shape for frame in read(store, written)] == [(7, 0)]


def test_the_row_tag_numbers_the_rows_of_the_whole_task(store: FolderStore) -> None:
    output = Output(kind="hash", partitions=3, hash_keys=KEYS, row_tag=True)
    frames = read(store, write(store, output, FRAME, FRAME, map_index=7))
    assert all(frame.columns == ["k", "v", *ROW_TAG_COLUMNS] for frame in frames)
    whole = pl.concat(frames).sort(ROW_TAG_COLUMNS)
    assert whole.schema[ROW_TAG_COLUMNS[0]] == pl.UInt32
    assert whole.schema[ROW_TAG_COLUMNS[1]] == pl.UInt64
    assert_frame_equal(whole.select("k", "v"), pl.concat([FRAME, FRAME]))
    assert whole[ROW_TAG_COLUMNS[1]].to_list() == list(range(12))
    assert set(whole[ROW_TAG_COLUMNS[0]]) == {7}


def test_a_range_is_cut_into_blocks_of_equal_rows_with_their_first_keys(store: FolderStore) -> None:
    frame = pl.DataFrame({"k": [None, 1, 1, 1, 1, 1, 2, 3, 3, 9], "v": range(10)})
    written = write(store, Output(kind="range", partitions=4, sort_keys=SORT, inline_limit_bytes=0), frame[:3], frame[3:])
    assert [(block.partition, block.rows) for block in written.blocks] == [(0, 2), (1, 3), (2, 2), (3, 3)]
    encoded = row_encode(frame, SORT).to_list()
    assert [block.low for block in written.blocks] == [encoded[row] for row in (0, 2, 5, 7)]
    assert_frame_equal(pl.concat(read(store, written)), frame)


def test_a_range_of_fewer_rows_than_blocks_has_a_block_a_row(store: FolderStore) -> None:
    written = write(store, Output(kind="range", partitions=9, sort_keys=SORT), pl.DataFrame({"k": [1, 2]}))
    assert [block.rows for block in written.blocks] == [1, 1]


def test_large_output_is_cut_into_blocks_that_are_encoded_on_the_way(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("_BATCH_ROWS", 4),
        ("_STREAM_BLOCK_ROWS", 5),
        ("_BLOCK_BYTES", 64),
        ("_STREAM_BLOCK_BYTES", 1 << 20),
    ):
        monkeypatch.setattr(writer_module, name, value)
    frame = pl.DataFrame({"k": [1] * 40, "v": range(40)})
    for output in (
        Output(kind="broadcast", inline_limit_bytes=0),
        Output(kind="hash", partitions=4, hash_keys=KEYS),
        Output(kind="range", partitions=1, sort_keys=SORT),
    ):
        written = write(store, output, *(frame.slice(start, 3) for start in range(0, 40, 3)))
        assert len(written.blocks) >= 8
        assert max(block.rows for block in written.blocks) <= 6
        assert_frame_equal(pl.concat(read(store, written)), frame)


class WatchingStore(FolderStore):
    """Notes how many blocks were encoded before each part."""

    encoded = 0

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        self.before = [self.encoded for _ in parts]


def test_a_block_is_encoded_when_the_one_before_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = WatchingStore(tmp_path)

    def counted(frame: pl.DataFrame, codec: Codec) -> bytes:
        store.encoded += 1
        return encode_block(frame, codec)

    monkeypatch.setattr(writer_module, "encode_block", counted)
    frame = pl.DataFrame({"k": range(100)})
    written = write(store, Output(kind="hash", partitions=4, hash_keys=KEYS, inline_limit_bytes=0), frame)
    assert [block.partition for block in written.blocks] == [0, 1, 2, 3]
    assert store.before == [
        1,
        1,
        2,
        3,
        4,
        4,
    ]  # the header after the first block, which may have been small enough to go inline


class FullStore(FolderStore):
    """A store in which nothing fits."""

    def put(self, key: str, parts: object) -> None:
        raise StorageFullError(f"no space to write {key}")


def test_a_put_that_fails_raises_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageFullError):
        write(FullStore(tmp_path), PLAIN, FRAME)
    assert list(tmp_path.rglob("*")) == []


def test_an_aborted_writer_wrote_nothing_and_takes_no_more(store: FolderStore) -> None:
    writer = ExchangeWriter(PLAIN, store=store, key="k", map_index=0)
    writer.write(FRAME)
    writer.abort()
    with pytest.raises(InternalError):
        writer.write(FRAME)
    with pytest.raises(InternalError):
        writer.finish()
    assert store.list("") == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    frame=dataframes(min_cols=1, max_cols=3, min_size=1, max_size=20, excluded_dtypes=[pl.Object], chunked=True),
    count=st.integers(1, 5),
    codec=st.sampled_from(["auto", "ipc_lz4", "ipc_zstd", "parquet_snappy", "parquet_zstd"]),
)
def test_any_frame_comes_back_from_a_hash_exchange(
    tmp_path_factory: pytest.TempPathFactory, frame: pl.DataFrame, count: int, codec: str
) -> None:
    store = FolderStore(tmp_path_factory.mktemp("store"))
    key = pl.col(frame.columns[0]).meta.serialize()
    output = Output(
        kind="hash",
        partitions=count,
        hash_keys=(key,),
        row_tag=True,
        codec=codec,  # type: ignore[arg-type]  # of the closed set
        inline_limit_bytes=0,
    )
    written = write(store, output, frame)
    whole = pl.concat(read(store, written)).sort(ROW_TAG_COLUMNS[1]).drop(ROW_TAG_COLUMNS)
    assert whole.schema == frame.schema
    assert_frame_equal(whole, frame, check_exact=True)
