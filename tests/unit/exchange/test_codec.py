"""Blocks: every dtype comes back exactly, and damage is seen."""

from __future__ import annotations

from typing import get_args

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.errors import BlockError, QueryError
from frazil_functions.exchange.codec import (
    MAX_STREAM_BYTES,
    MIN_PARQUET_BYTES,
    check_block,
    choose_codec,
    crc32c,
    decode_block,
    encode_block,
    encode_parts,
)
from frazil_functions.task import Codec
from support.block_frames import every_dtype, every_frame

CODECS: tuple[Codec, ...] = get_args(Codec)
FRAME = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": [0.5, 1.5, None]})


@pytest.mark.parametrize("codec", CODECS)
def test_every_dtype_comes_back_with_the_same_values_and_dtype(codec: Codec) -> None:
    for name, frame in every_frame().items():
        fit = choose_codec(codec, schema=frame.schema, remote=True, raw_bytes=0)
        back = decode_block(encode_block(frame, fit), fit, rows=frame.height)
        assert back.schema == frame.schema, name
        assert back.height == frame.height, name
        assert_frame_equal(back, frame, check_exact=True)


@pytest.mark.parametrize("codec", CODECS)
def test_the_format_changes_only_where_it_cannot_carry_the_frame(codec: Codec) -> None:
    changed = 0
    for name, frame in every_dtype().items():
        if choose_codec(codec, schema=frame.schema, remote=True, raw_bytes=0) == codec:
            continue
        changed += 1
        with pytest.raises((pl.exceptions.PolarsError, BlockError)):
            decode_block(encode_block(frame, codec), codec, rows=frame.height, place=name)
    assert changed == 1


@pytest.mark.parametrize(
    ("remote", "raw_bytes", "expected"),
    [
        (False, MAX_STREAM_BYTES - 1, "ipc_stream"),
        (False, MAX_STREAM_BYTES, "ipc"),
        (True, MIN_PARQUET_BYTES - 1, "ipc_stream_zstd"),
        (True, MIN_PARQUET_BYTES, "parquet_zstd"),
    ],
)
def test_auto_takes_plain_ipc_on_a_folder_compresses_for_a_network_and_streams_small_blocks(
    remote: bool, raw_bytes: int, expected: Codec
) -> None:
    assert choose_codec("auto", schema=FRAME.schema, remote=remote, raw_bytes=raw_bytes) == expected


def test_a_small_slice_of_nested_values_is_a_small_block_by_auto() -> None:
    """Polars streams whole shared buffers of nested values, so they are no stream."""
    text = pl.Series(range(50_000)).cast(pl.String) + " is longer than twelve bytes"
    few = pl.DataFrame({"s": text}).select(l=pl.concat_list("s"), st=pl.struct("s")).slice(500, 10)
    for name in few.columns:
        frame = few.select(name)
        codec = choose_codec("auto", schema=frame.schema, remote=False, raw_bytes=int(frame.estimated_size()))
        assert len(encode_block(frame, codec)) < 4096


def test_auto_on_a_folder_leaves_ipc_where_ipc_cannot_carry_the_schema() -> None:
    schema = pl.Schema({"c": pl.List(pl.Array(pl.Int8, 0))})
    assert choose_codec("auto", schema=schema, remote=False, raw_bytes=1) == "parquet_snappy"


@pytest.mark.parametrize(
    "schema",
    [{"c": pl.Object()}, {"c": pl.Struct({"a": pl.Struct([]), "b": pl.Array(pl.Int8, 0)})}],
    ids=["object", "both odd types"],
)
def test_what_no_format_carries_is_refused_with_the_column_named(schema: dict[str, pl.DataType]) -> None:
    with pytest.raises(QueryError, match="can't pass between stages: c "):
        choose_codec("auto", schema=pl.Schema(schema), remote=False, raw_bytes=1)


@pytest.mark.parametrize("codec", CODECS)
def test_projection_decodes_the_columns_asked_for_in_their_order(codec: Codec) -> None:
    data = encode_block(FRAME, codec)
    assert_frame_equal(decode_block(data, codec, rows=3, columns=["c", "a"]), FRAME.select("c", "a"))
    assert decode_block(data, codec, rows=3, columns=[]).shape == (3, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_a_column_that_is_not_there_is_an_error_of_the_query(codec: Codec) -> None:
    with pytest.raises(QueryError, match='"nope"') as raised:
        decode_block(encode_block(FRAME, codec), codec, rows=3, columns=["nope"])
    assert raised.value.exception == "ColumnNotFoundError"


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_of_another_kind_or_another_number_of_rows_are_a_block_error(codec: Codec) -> None:
    with pytest.raises(BlockError, match="here"):
        decode_block(b"x" * 400, codec, rows=3, place="here")
    with pytest.raises(BlockError, match="3 rows instead of 4"):
        decode_block(encode_block(FRAME, codec), codec, rows=4, place="here")


def test_one_flipped_bit_is_seen_and_named() -> None:
    data = encode_block(FRAME, "ipc")
    good = crc32c(data)
    check_block(data, good, place="k at 8")
    damaged = bytearray(data)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(BlockError, match=f"block k at 8 is corrupt: .* instead of {good:08x}"):
        check_block(bytes(damaged), good, place="k at 8")


def test_the_checksum_is_castagnoli() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_a_small_slice_of_a_large_frame_is_a_small_block() -> None:
    large = pl.DataFrame({"s": pl.Series(range(100_000)).cast(pl.String) + " is longer than twelve bytes"})
    for codec in CODECS:
        assert len(encode_block(large.slice(5000, 10), codec)) < 4096


@pytest.mark.parametrize("codec", CODECS)
def test_a_block_in_parts_is_the_same_block_and_has_few_small_parts(codec: Codec) -> None:
    numbers = pl.Series(range(300_000))
    large = pl.DataFrame({"n": numbers, "s": numbers.hash(1).cast(pl.String), "x": numbers.hash(2)})
    for frame in (large, FRAME, FRAME.clear(), *every_dtype().values()):
        fit = choose_codec(codec, schema=frame.schema, remote=True, raw_bytes=0)
        parts, whole = encode_parts(frame, fit), encode_block(frame, fit)
        assert b"".join(parts) == whole
        assert crc32c(*parts) == crc32c(whole)
        assert len(parts) <= 2 + 2 * len(whole) // (64 * 1024)
