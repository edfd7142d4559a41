"""The Arrow stream of a result: every dtype comes back, however the result is cut into blocks."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

import polars as pl
import pyarrow.ipc
import pytest
from polars.testing import assert_frame_equal

from frazil_coordinator.results import END_OF_STREAM, arrow_stream, splice
from frazil_functions.errors import InternalError


def every_dtype(words: Sequence[str]) -> pl.DataFrame:
    """Return a frame whose categoricals have dictionaries of their own."""
    count = len(words)
    enum = pl.Enum(["b", "a"])
    return pl.DataFrame(
        {
            "categorical": pl.Series(words, dtype=pl.Categorical),
            "enum": pl.Series(["a"] * count, dtype=enum),
            "categoricals": pl.Series([[word, "q"] for word in words], dtype=pl.List(pl.Categorical)),
            "inner": pl.Series([{"k": word} for word in words], dtype=pl.Struct({"k": pl.Categorical})),
            "enums": pl.Series([["a"]] * count, dtype=pl.List(enum)),
            "decimal": pl.Series([Decimal("1.25")] * count, dtype=pl.Decimal(20, 2)),
            "array": pl.Series([[1, 2]] * count, dtype=pl.Array(pl.Int8, 2)),
            "binary": pl.Series([b"x"] * count, dtype=pl.Binary),
            "zoned": pl.Series([dt.datetime(2020, 1, 1, tzinfo=dt.UTC)] * count, dtype=pl.Datetime("ns", "Europe/Berlin")),
            "duration": pl.Series([dt.timedelta(1)] * count, dtype=pl.Duration("ms")),
            "time": pl.Series([dt.time(1)] * count, dtype=pl.Time),
            "date": pl.Series([dt.date(2020, 1, 1)] * count, dtype=pl.Date),
            "wide": pl.Series([2**100] * count, dtype=pl.Int128),
            "null": pl.Series([None] * count, dtype=pl.Null),
            "boolean": pl.Series([True] * count, dtype=pl.Boolean),
            "string": pl.Series(words, dtype=pl.String),
        }
    )


async def blocks_of(frames: Sequence[pl.DataFrame]) -> AsyncGenerator[pl.DataFrame, None]:
    for frame in frames:
        yield frame


async def stream_of(*frames: pl.DataFrame) -> bytes:
    return b"".join([chunk async for chunk in arrow_stream(blocks_of(frames))])


FIRST, SECOND = every_dtype(["x", "y"]), every_dtype(["z", "x", "w"])


@pytest.mark.parametrize(
    "frames",
    [(FIRST,), (FIRST.clear(),), (FIRST, SECOND), (FIRST.clear(), FIRST, SECOND, SECOND.clear(), FIRST)],
    ids=["one block", "no rows", "two blocks", "with empty blocks"],
)
async def test_a_result_comes_back_with_its_exact_dtypes(frames: tuple[pl.DataFrame, ...]) -> None:
    got = pl.read_ipc_stream(io.BytesIO(await stream_of(*frames)))
    expected = pl.concat(frames)
    assert got.schema == expected.schema
    assert_frame_equal(got, expected)


async def test_the_stream_has_one_schema_and_one_end() -> None:
    stream = await stream_of(FIRST, SECOND)
    schema = stream[: len(splice(_ipc(FIRST.clear()), first=True))]
    assert stream.count(schema) == 1
    assert stream.count(END_OF_STREAM) == 1
    assert stream.endswith(END_OF_STREAM)


async def test_other_arrow_readers_can_read_it() -> None:
    stream = await stream_of(FIRST.drop("wide"), SECOND.drop("wide"))
    table = pyarrow.ipc.open_stream(stream).read_all()
    assert table.column("categorical").to_pylist() == ["x", "y", "z", "x", "w"]
    assert table.column("inner").to_pylist() == [{"k": word} for word in ["x", "y", "z", "x", "w"]]


async def test_a_frame_of_many_chunks_is_one_stream() -> None:
    chunked = pl.concat([pl.DataFrame({"a": [number]}) for number in range(5)], rechunk=False)
    assert pl.read_ipc_stream(io.BytesIO(await stream_of(chunked, chunked)))["a"].to_list() == [*range(5), *range(5)]


@pytest.mark.parametrize("torn", [b"\xff\xff\xff", b"\x00\x00\x00\x00\x00\x00\x00\x00"])
def test_bytes_that_are_no_stream_are_refused(torn: bytes) -> None:
    with pytest.raises(InternalError):
        splice(torn, first=True)


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer)
    return buffer.getvalue()
