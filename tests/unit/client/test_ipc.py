"""Reading an Arrow IPC stream batch by batch, as the coordinator writes it."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil._ipc import read_batches
from frazil._session import UnreachableError
from frazil_coordinator.results import arrow_stream
from frazil_functions.errors import RequestError

COLOURS = pl.Enum(["red", "green"])


def frame(*values: str) -> pl.DataFrame:
    rows = len(values)
    return pl.DataFrame(
        {
            "category": pl.Series(values, dtype=pl.Categorical),
            "enum": pl.Series(["red"] * rows, dtype=COLOURS),
            "text": pl.Series([f"{value} and so on, to be longer than twelve bytes" for value in values]),
            "list": [[1, 2]] * rows,
            "struct": [{"a": 1, "b": None}] * rows,
            "decimal": pl.Series([Decimal("1.50")] * rows, dtype=pl.Decimal(38, 2)),
            "big": pl.Series([2**100] * rows, dtype=pl.Int128),
            "time": [datetime(2026, 1, 2, tzinfo=UTC)] * rows,
        }
    )


async def sent(*frames: pl.DataFrame) -> bytes:
    async def source() -> AsyncGenerator[pl.DataFrame, None]:
        for one in frames:
            yield one

    return b"".join([chunk async for chunk in arrow_stream(source())])


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_every_dtype_survives_however_the_bytes_are_cut(size: int) -> None:
    frames = [frame("a", "b"), frame("c", "a"), frame("b")]
    stream = await sent(*frames)
    chunks = [stream[start : start + size] for start in range(0, len(stream), size)]
    batches = list(read_batches(chunks))
    assert [batch.height for batch in batches] == [2, 2, 1]
    assert_frame_equal(pl.concat(batches), pl.concat(frames), categorical_as_str=True)


async def test_an_empty_result_keeps_its_schema() -> None:
    (batch,) = read_batches([await sent(frame("a").clear())])
    assert batch.height == 0
    assert batch.schema == frame("a").schema


def test_a_stream_of_polars_itself_is_read() -> None:
    buffer = io.BytesIO()
    whole = pl.concat([frame("a"), frame("b", "c")], rechunk=False)
    whole.write_ipc_stream(buffer)
    assert_frame_equal(pl.concat(list(read_batches([buffer.getvalue()]))), whole, categorical_as_str=True)


async def test_a_stream_that_is_cut_off_is_never_taken_for_a_whole_one() -> None:
    stream = await sent(frame("a"), frame("b"))
    for end in range(0, len(stream), 16):
        with pytest.raises(UnreachableError, match="cut off"):
            list(read_batches([stream[:end]]))


def test_what_is_not_arrow_is_refused() -> None:
    with pytest.raises(RequestError, match="not an Arrow IPC stream"):
        list(read_batches([b"<html>this is some page of a proxy</html>"]))


NOTHING = pl.DataFrame(
    [
        pl.Series("flat", [None, [], None], pl.Array(pl.Int32, 0)),
        pl.Series("text", ["a", None, "c"]),
        pl.Series(
            "field", [{"x": [], "y": 1}, None, {"x": None, "y": 2}], pl.Struct({"x": pl.Array(COLOURS, 0), "y": pl.Int8})
        ),
        pl.Series("item", [[[], None], [], None], pl.List(pl.Array(pl.Datetime("us", "UTC"), 0))),
        pl.Series("big", [1, None, 3], pl.Decimal(38, 2)),
    ]
)


@pytest.mark.parametrize("rows", [NOTHING, NOTHING.clear(), NOTHING.select("flat")], ids=["rows", "no rows", "nothing else"])
async def test_arrays_of_no_width_arrive_although_polars_can_not_read_them(rows: pl.DataFrame) -> None:
    stream = await sent(rows, rows.head(2))
    with pytest.raises(pl.exceptions.ComputeError, match="zero sized"):
        pl.read_ipc_stream(io.BytesIO(stream))
    assert_frame_equal(pl.concat(read_batches([stream])), pl.concat([rows, rows.head(2)]))
