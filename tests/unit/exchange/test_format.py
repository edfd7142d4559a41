"""The layout of objects: they describe themselves, and what is no whole object is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from frazil_functions.errors import BlockError
from frazil_functions.exchange.codec import crc32c
from frazil_functions.exchange.format import HEADER, VERSION, encode_footer, read_footer
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockInfo, Descriptor

BLOCKS = (
    BlockInfo(partition=0, offset=8, length=3, rows=1, crc32c=crc32c(b"abc"), codec="ipc"),
    BlockInfo(partition=7, offset=11, length=2, rows=2, crc32c=crc32c(b"de"), codec="parquet_zstd", low=b"\x00\xff"),
)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    """Return a store that holds one object ``k`` of two blocks."""
    store = CountingStore(FolderStore(tmp_path))
    store.put("k", [HEADER, b"abc", b"de", encode_footer("range", 3, BLOCKS, raw_bytes=99)])
    return store


def test_an_object_describes_itself_in_one_head_and_one_get(store: CountingStore) -> None:
    footer = read_footer(store, "k")
    assert footer.descriptor("k") == Descriptor(key="k", blocks=BLOCKS)
    assert (footer.kind, footer.map_index, footer.rows, footer.raw_bytes) == ("range", 3, 3, 99)
    assert store.requests == {"put": 1, "head": 1, "get": 1}


def test_a_large_index_takes_one_get_more(store: CountingStore) -> None:
    blocks = tuple(msgspec.structs.replace(BLOCKS[1], partition=number) for number in range(5000))
    store.put("k", [HEADER, b"abcde", encode_footer("hash", 0, blocks, raw_bytes=0)])
    assert read_footer(store, "k").infos() == blocks
    assert store.requests["get"] == 2


def test_the_bytes_are_those_of_the_specification(store: CountingStore) -> None:
    data = store.get("k")
    assert data[:8] == b"FRZX\x01\x00\x00\x00"
    assert data[8:13] == b"abcde"
    assert data[-8:] == b"\x01\x00\x00\x00FRZX"
    length = int.from_bytes(data[-16:-12], "little")
    index = data[13 : 13 + length]
    assert len(data) == 13 + length + 16
    assert int.from_bytes(data[-12:-8], "little") == crc32c(index)
    found = msgspec.msgpack.decode(index)
    assert set(found) == {"kind", "map_index", "polars", "rows", "raw_bytes", "blocks"}
    assert found["blocks"] == [
        [0, 8, 3, 1, crc32c(b"abc"), "ipc", None],
        [7, 11, 2, 2, crc32c(b"de"), "parquet_zstd", b"\x00\xff"],
    ]


def test_an_object_cut_short_anywhere_is_a_block_error(store: CountingStore) -> None:
    data = store.get("k")
    for length in range(len(data)):
        store.put("k", [data[:length]])
        with pytest.raises(BlockError, match="object k"):
            read_footer(store, "k")


def test_a_flipped_bit_in_index_or_trailer_is_a_block_error_or_changes_nothing(store: CountingStore) -> None:
    data = store.get("k")
    good = read_footer(store, "k")
    for place in range(13, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        store.put("k", [bytes(damaged)])
        if place in (len(data) - 6, len(data) - 5):  # reserved
            assert read_footer(store, "k") == good
        else:
            with pytest.raises(BlockError, match="object k"):
                read_footer(store, "k")


def test_a_newer_version_is_named(store: CountingStore) -> None:
    data = bytearray(store.get("k"))
    data[-8] = VERSION + 1
    store.put("k", [bytes(data)])
    with pytest.raises(BlockError, match=f"format version {VERSION + 1}"):
        read_footer(store, "k")


def test_an_index_of_another_shape_is_a_block_error(store: CountingStore) -> None:
    index = msgspec.msgpack.encode({"blocks": 1})
    trailer = len(index).to_bytes(4, "little") + crc32c(index).to_bytes(4, "little") + b"\x01\x00\x00\x00FRZX"
    store.put("k", [HEADER, index, trailer])
    with pytest.raises(BlockError, match="index that can't be read"):
        read_footer(store, "k")


def test_a_missing_object_is_a_block_error(store: CountingStore) -> None:
    with pytest.raises(BlockError, match="object none is missing"):
        read_footer(store, "none")
