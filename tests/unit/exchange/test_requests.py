"""Requests of a shuffle: P PUT and P·R GET, fewer when readers take neighbours, nothing else; on a folder and on real S3."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from frazil_functions.exchange.format import block_refs
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import CountingStore, open_store
from frazil_functions.task import Descriptor, ExchangeInput, Output, TaskStats
from support.seaweed import SeaweedFS

MAPS, REDUCERS = 4, 6
FRAME = pl.DataFrame({"k": range(600), "v": [f"value {n}" for n in range(600)]})


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CountingStore:
    """Return a counting store on each kind of storage."""
    if request.param == "folder":
        return CountingStore(open_store(str(tmp_path)))
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    return CountingStore(open_store(seaweed.url("exchange-requests/run"), seaweed.storage_options))


def shuffle(store: CountingStore, *, inline_limit_bytes: int) -> list[Descriptor]:
    """Write the outputs of all map tasks."""
    output = Output(
        kind="hash",
        partitions=REDUCERS,
        hash_keys=(pl.col("k").meta.serialize(),),
        inline_limit_bytes=inline_limit_bytes,
    )
    made = []
    for task in range(MAPS):
        writer = ExchangeWriter(output, store=store, key=f"q/{task}", map_index=task)
        writer.write(FRAME.filter(pl.col("k") % MAPS == task))
        made.append(writer.finish().descriptor(TaskStats()))
    return made


def reduce(store: CountingStore, made: Sequence[Descriptor], partitions: Sequence[int]) -> int:
    """Read some partitions as one task does, in map order, and return the rows."""
    blocks = tuple(
        block
        for task, one in enumerate(made)
        for block in block_refs(one, task)
        if _partition(one, block.offset) in partitions
    )
    return sum(frame.height for frame in read_exchange(store, ExchangeInput(blocks=blocks)))


def _partition(made: Descriptor, offset: int) -> int:
    return next(info.partition for info in made.blocks if info.offset == offset)


def test_a_shuffle_costs_a_put_a_map_and_a_get_a_pair(store: CountingStore) -> None:
    made = shuffle(store, inline_limit_bytes=0)
    assert store.requests == {"put": MAPS}
    assert all(len(one.blocks) == REDUCERS for one in made)
    rows = sum(reduce(store, made, [partition]) for partition in range(REDUCERS))
    assert rows == FRAME.height
    assert store.requests == {"put": MAPS, "get": MAPS * REDUCERS}
    assert store.bytes["get"] == sum(info.length for one in made for info in one.blocks)
    assert store.delete_prefix("q") == MAPS
    assert store.list("") == []


def test_readers_of_neighbouring_partitions_get_them_at_once(store: CountingStore) -> None:
    made = shuffle(store, inline_limit_bytes=0)
    rows = sum(reduce(store, made, [first, first + 1]) for first in range(0, REDUCERS, 2))
    assert rows == FRAME.height
    assert store.requests == {"put": MAPS, "get": MAPS * REDUCERS // 2}
    assert store.delete_prefix("q") == MAPS


def test_inline_output_costs_no_request_at_all(store: CountingStore) -> None:
    made = shuffle(store, inline_limit_bytes=1 << 20)
    assert sum(reduce(store, made, [partition]) for partition in range(REDUCERS)) == FRAME.height
    assert store.requests == {}
