"""The bundle of a task: what old versions wrote is read, and what is none is refused with advice.

``tests/golden/replay/bundle-v<n>.bin`` was written by version n and is never written again. After a change of the format,
``python tests/unit/functions/test_bundle.py --regenerate`` writes a file for the new version beside the old ones.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import msgspec
import pytest

from frazil_functions.bundle import (
    BUNDLE_VERSION,
    Bundle,
    decode_bundle,
    encode_bundle,
    missing_bytes,
    with_blocks,
    with_fragment,
)
from frazil_functions.errors import BlockError, CancelledQueryError, QueryError, RequestError, to_wire
from frazil_functions.ids import QueryId, StageId, TaskIndex
from frazil_functions.sealed import seal_fragment
from frazil_functions.storage import CountingStore, FolderStore
from frazil_functions.task import BlockRef, ExchangeInput, Output, ScanInput, Split, TaskRequest

GOLDEN = Path(__file__).parents[2] / "golden" / "replay"


def block(key: str, offset: int, length: int, data: bytes | None = None) -> BlockRef:
    return BlockRef(key=key, offset=offset, length=length, rows=1, crc32c=7, codec="ipc", map_index=0, data=data)


def request(*blocks: BlockRef, fragment: bytes = b"a fragment", fragment_key: str | None = None) -> TaskRequest:
    return TaskRequest(
        query=QueryId("0123456789abcdef"),
        stage=StageId(3),
        task=TaskIndex(17),
        attempt=1,
        fragment=fragment,
        fragment_key=fragment_key,
        inputs=(
            ExchangeInput(blocks=blocks),
            ScanInput(splits=(Split(path="s3://lake/t.parquet", offset=4, rows=8, size=99, etag='"e"'),)),
        ),
        output=Output(kind="hash", partitions=3, hash_keys=(b"k",), prefix="exchange/61/0123456789abcdef/3/17"),
        polars_version="2.1.0",
        protocol_version=3,
    )


def golden_bundle() -> Bundle:
    """Return what is in the golden file; it never changes."""
    return Bundle(
        request=request(block("exchange/61/a", 8, 4, b"rows"), block("exchange/61/b", 8, 2, b"ab")),
        error=to_wire(QueryError("no such column", exception="ColumnNotFoundError", where={"stage": "3", "task": "17"})),
        frazil_version="0.1.0",
        made_unix_s=1_796_000_000.5,
    )


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.stem)
def test_bundles_that_old_versions_wrote_are_read(path: Path) -> None:
    assert decode_bundle(path.read_bytes()) == golden_bundle()


def test_the_golden_file_of_this_version_is_what_is_written() -> None:
    assert encode_bundle(golden_bundle()) == (GOLDEN / f"bundle-v{BUNDLE_VERSION}.bin").read_bytes()


def test_a_bundle_without_its_blocks_says_so() -> None:
    bundle = msgspec.structs.replace(golden_bundle(), left_out_bytes=6, left_out="too many", error=None)
    assert decode_bundle(encode_bundle(bundle)) == bundle
    assert bundle.id == "0123456789abcdef/3/17/1"


WHOLE = encode_bundle(golden_bundle())


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"", "--save"),
        (b"PAR1" * 9, "--save"),
        (WHOLE[:8] + struct.pack("<H", 2) + WHOLE[10:], "replay it with the frazil that its coordinator runs"),
        (WHOLE[:-1], "fetch it again"),
        (WHOLE[:40], "fetch it again"),
    ],
    ids=["empty", "another file", "another version", "cut off", "cut off early"],
)
def test_what_is_no_bundle_is_refused_with_advice(data: bytes, advice: str) -> None:
    with pytest.raises(RequestError, match="that file") as refused:
        decode_bundle(data, source="that file")
    assert advice in str(refused.value)


def test_blocks_and_fragment_are_taken_along_and_nothing_is_read_twice(tmp_path: Path) -> None:
    store = CountingStore(FolderStore(tmp_path))
    store.put("exchange/a", [b"headrowsmore"])
    sealed, secret = seal_fragment(b"the fragment")
    store.put("exchange/f", [sealed])
    given = request(
        block("exchange/a", 4, 4), block("exchange/a", 8, 4), block("", 0, 2, b"in"), fragment=b"", fragment_key="exchange/f"
    )
    given = msgspec.structs.replace(given, fragment_secret=secret)
    assert missing_bytes(given) == 8, "what travels inline is there"
    held = with_blocks(with_fragment(given, store), store)
    exchange = held.inputs[0]
    assert isinstance(exchange, ExchangeInput)
    assert [one.data for one in exchange.blocks] == [b"rows", b"more", b"in"]
    assert (held.fragment, held.fragment_key, held.fragment_secret) == (b"the fragment", None, b"")
    assert missing_bytes(held) == 0
    assert held.inputs[1] == given.inputs[1], "a share of a table is read where it lies"
    assert store.requests == {"put": 2, "get": 2}, "neighbours are one GET"


def test_a_block_that_is_gone_or_not_wanted_any_more_is_an_error(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with pytest.raises(BlockError):
        with_blocks(request(block("exchange/a", 0, 4)), store)
    with pytest.raises(CancelledQueryError):
        with_blocks(request(block("exchange/a", 0, 4)), store, cancelled=lambda: True)


if __name__ == "__main__" and "--regenerate" in sys.argv:
    (GOLDEN / f"bundle-v{BUNDLE_VERSION}.bin").write_bytes(encode_bundle(golden_bundle()))
