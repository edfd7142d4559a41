"""Pieces of what a task reads: even ones, and no more of them than are of use."""

from __future__ import annotations

import pytest

from frazil_coordinator.schedule.pieces import cut_source
from frazil_functions.task import BlockRef, ExchangeInput


def sizes_of_pieces(sizes: list[int], count: int) -> list[list[int]]:
    """Cut blocks of these sizes, and return the sizes in each piece."""
    blocks = tuple(
        BlockRef(key="object", offset=0, length=size, rows=1, codec="ipc", crc32c=0, map_index=number)
        for number, size in enumerate(sizes)
    )
    pieces = cut_source((ExchangeInput(blocks=blocks),), 0, count)
    given = [piece[0] for piece in pieces]
    return [[block.length for block in one.blocks] for one in given if isinstance(one, ExchangeInput)]


def test_blocks_of_one_size_make_pieces_of_one_size() -> None:
    assert sizes_of_pieces([100] * 16, 10) == [[100, 100]] * 8
    assert sizes_of_pieces([100, 101] * 8, 10) == [[100, 101]] * 8


@pytest.mark.parametrize(
    ("sizes", "count"), [([7], 4), ([0, 0], 2), ([1, 90, 1, 1, 40, 3], 4), ([5] * 100, 3), ([9] * 6, 6)]
)
def test_pieces_hold_every_block_once_in_order_and_are_no_more_than_allowed(sizes: list[int], count: int) -> None:
    pieces = sizes_of_pieces(sizes, count)
    assert [size for piece in pieces for size in piece] == sizes
    assert all(pieces)
    assert len(pieces) <= count


def test_fewer_pieces_are_never_larger_ones() -> None:
    assert max(map(sum, sizes_of_pieces([10, 10, 10, 10, 10, 11, 10, 10, 10], 5))) <= 21
    assert len(sizes_of_pieces([5] * 6, 4)) == 3
