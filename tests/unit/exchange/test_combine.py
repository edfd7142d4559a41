"""Copying blocks into one object: the same bytes in the order asked for, one request for neighbours, nothing decoded."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.errors import BlockError, CancelledQueryError
from frazil_functions.exchange import combine as combine_module
from frazil_functions.exchange.combine import combine_blocks
from frazil_functions.exchange.format import block_refs, read_footer
from frazil_functions.exchange.reader import read_exchange, requests_for
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockRef, Descriptor, ExchangeInput, Output, TaskStats

MAPS, PARTITIONS = 3, 4


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> CountingStore:
    return CountingStore(FolderStore(tmp_path_factory.mktemp("combine")))


@pytest.fixture
def blocks(store: CountingStore) -> list[list[BlockRef]]:
    """Write the outputs of all map tasks: ``[map][partition]``."""
    output = Output(
        kind="hash", partitions=PARTITIONS, hash_keys=(pl.col("k").meta.serialize(),), inline_limit_bytes=0, codec="auto"
    )
    found: list[list[BlockRef]] = []
    for task in range(MAPS):
        writer = ExchangeWriter(output, store=store, key=f"q/{task}", map_index=task)
        writer.write(pl.DataFrame({"k": range(40), "map": [task] * 40, "s": [None, "é"] * 20}))
        found.append(list(block_refs(writer.finish().descriptor(TaskStats()), task)))
    assert all(len(own) == PARTITIONS for own in found)
    return found


def copied(store: CountingStore, wanted: list[BlockRef]) -> Descriptor:
    return combine_blocks(store, wanted, key="c/0", map_index=5).descriptor(TaskStats())


def rows(store: CountingStore, wanted: tuple[BlockRef, ...]) -> pl.DataFrame:
    return pl.concat(read_exchange(store, ExchangeInput(blocks=wanted)))


def test_blocks_are_copied_in_the_order_asked_for_with_a_request_an_object(
    store: CountingStore, blocks: list[list[BlockRef]]
) -> None:
    wanted = [blocks[map_][partition] for partition in (1, 2) for map_ in range(MAPS)]
    expected = rows(store, tuple(wanted))
    before = store.requests
    made = copied(store, wanted)
    assert store.requests["get"] - before["get"] == MAPS
    assert store.requests["put"] - before["put"] == 1
    now = block_refs(made, 0)
    assert [(block.crc32c, block.length, block.rows, block.codec) for block in now] == [
        (block.crc32c, block.length, block.rows, block.codec) for block in wanted
    ]
    assert_frame_equal(rows(store, now), expected)
    assert requests_for(now) == 1


def test_an_object_of_copies_describes_itself(store: CountingStore, blocks: list[list[BlockRef]]) -> None:
    made = copied(store, [blocks[2][3], blocks[0][0]])
    footer = read_footer(store, "c/0")
    assert (footer.kind, footer.map_index, footer.infos()) == ("combined", 5, made.blocks)
    assert footer.rows == blocks[2][3].rows + blocks[0][0].rows
    assert [info.partition for info in made.blocks] == [0, 1]


def test_nothing_is_written_for_no_block(store: CountingStore) -> None:
    assert combine_blocks(store, [], key="c/0", map_index=0).key is None
    assert store.requests == {}


def test_a_damaged_block_is_named_and_nothing_is_written(store: CountingStore, blocks: list[list[BlockRef]]) -> None:
    data = bytearray(store.get("q/1"))
    data[blocks[1][2].offset] ^= 1
    store.put("q/1", [bytes(data)])
    with pytest.raises(BlockError, match=f"q/1 at {blocks[1][2].offset}") as caught:
        copied(store, [own[2] for own in blocks])
    assert caught.value.where == {"object": "q/1"}
    assert store.list("c") == []


def test_a_cancelled_copy_writes_nothing(store: CountingStore, blocks: list[list[BlockRef]]) -> None:
    with pytest.raises(CancelledQueryError):
        combine_blocks(store, blocks[0], key="c/0", map_index=0, cancelled=lambda: True)
    assert store.list("c") == []


def test_blocks_are_not_decoded(store: CountingStore, blocks: list[list[BlockRef]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hasattr(combine_module, "decode_block")
    monkeypatch.setattr("frazil_functions.exchange.reader.decode_block", None)
    assert len(copied(store, blocks[0]).blocks) == PARTITIONS
