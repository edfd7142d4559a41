"""Copying blocks of many objects into one, so that who reads them needs fewer requests: the first level of a large shuffle.

Nothing is decoded: blocks stay the bytes that they are, with their checksums, and only their places change. Which blocks go
where is decided by the coordinator (docs/exchange.md, "Two levels"). Called by :mod:`frazil_functions.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frazil_functions.errors import BlockError
from frazil_functions.exchange.codec import check_block
from frazil_functions.exchange.format import HEADER, encode_footer
from frazil_functions.exchange.reader import fetch_blocks
from frazil_functions.exchange.writer import WrittenOutput
from frazil_functions.storage_model import Store
from frazil_functions.task import BlockInfo, BlockRef

__all__ = ["combine_blocks"]


def combine_blocks(
    store: Store,
    blocks: Sequence[BlockRef],
    *,
    key: str,
    map_index: int,
    cancelled: Callable[[], bool] | None = None,
) -> WrittenOutput:
    """Copy `blocks` into one object, in their order: a GET for each run of neighbours in an object, and 1 PUT.

    Parameters
    ----------
    store
        Where they are, and where they go.
    blocks
        What to copy, each once; no object is written for none.
    key, map_index
        As :class:`~frazil_functions.exchange.writer.ExchangeWriter` has them.
    cancelled
        Asked before each block and while waiting for one.

    Raises
    ------
    BlockError
        When a block is missing, torn or corrupt; it names the object that it was to be copied from.
    StorageFullError, StorageError
        When the store refuses; then nothing is left behind.
    CancelledQueryError
        When `cancelled` says so.

    Notes
    -----
    The encoded bytes of all blocks are in memory at once.
    """
    found: dict[tuple[str, int], bytes] = {}
    for block, data in fetch_blocks(store, _by_object(blocks), cancelled=cancelled):
        try:
            check_block(data, block.crc32c, place=f"{block.key} at {block.offset}")
        except BlockError as error:
            error.where["object"] = block.key
            raise
        found[block.key, block.offset] = data
    infos: list[BlockInfo] = []
    end = len(HEADER)
    for number, block in enumerate(blocks):
        infos.append(
            BlockInfo(
                partition=number,
                offset=end,
                length=block.length,
                rows=block.rows,
                crc32c=block.crc32c,
                codec=block.codec,
            )
        )
        end += block.length
    rows = sum(block.rows for block in blocks)
    if not infos:
        return WrittenOutput(key=None, blocks=(), inline=None, rows=0, raw_bytes=0, bytes=0)
    footer = encode_footer("combined", map_index, infos, raw_bytes=0)
    store.put(key, [HEADER, *(found[block.key, block.offset] for block in blocks), footer])
    return WrittenOutput(key=key, blocks=tuple(infos), inline=None, rows=rows, raw_bytes=0, bytes=end + len(footer))


def _by_object(blocks: Sequence[BlockRef]) -> list[BlockRef]:
    """Return the blocks in an order in which each object is read from its beginning to its end, once."""
    objects = {key: place for place, key in enumerate(dict.fromkeys(block.key for block in blocks))}
    return sorted(blocks, key=lambda block: (objects[block.key], block.offset))
