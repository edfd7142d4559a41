"""A result as bytes of the format that a client asked for: Arrow, Parquet, CSV, JSON or NDJSON; Polars writes each of them.

All but Parquet are sent block by block as they are read. A Parquet file has its index at its end and Polars writes it to a
path, so it is made in a temporary file of about the result's size, row group by row group, and sent from there. Nothing here
holds more than one block. Before: :mod:`frazil_coordinator.retention` reads the blocks. Next:
:mod:`frazil_coordinator.api.results` sends the bytes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from enum import StrEnum
from pathlib import Path
from typing import Final, assert_never

import polars as pl
from polars.io.plugins import register_io_source

from frazil_coordinator.results import ARROW_STREAM, arrow_stream
from frazil_coordinator.scratch import scratch_folder
from frazil_functions.errors import CancelledQueryError, FrazilError, RequestError
from frazil_functions.exchange.dtypes import anywhere

__all__ = ["MEDIA_TYPES", "NotAcceptableError", "ResultFormat", "encoded"]

_TEXT_ROWS: Final = 65_536
"""Rows of text that are written at a time."""

_CHUNK_BYTES: Final = 1024 * 1024


class ResultFormat(StrEnum):
    """What a result can be sent as."""

    ARROW = "arrow"
    PARQUET = "parquet"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"


MEDIA_TYPES: Final[Mapping[ResultFormat, str]] = {
    ResultFormat.ARROW: ARROW_STREAM,
    ResultFormat.PARQUET: "application/vnd.apache.parquet",
    ResultFormat.CSV: "text/csv",
    ResultFormat.JSON: "application/json",
    ResultFormat.NDJSON: "application/x-ndjson",
}
"""By format; the first one is the default."""


class NotAcceptableError(RequestError):
    """The result can't be sent in any form that the client takes."""


def encoded(frames: AsyncGenerator[pl.DataFrame, None], form: ResultFormat) -> AsyncGenerator[bytes, None]:
    """Yield a result as bytes.

    Parameters
    ----------
    frames
        At least one frame, all of one schema. It is closed with the stream.
    form
        The format.

    Raises
    ------
    NotAcceptableError
        From the first chunk, when Polars can't write columns of the result in that format.
    FrazilError
        What `frames` raises.
    """
    match form:
        case ResultFormat.ARROW:
            return arrow_stream(frames)
        case ResultFormat.PARQUET:
            return _parquet(frames)
        case ResultFormat.CSV:
            return _csv(frames)
        case ResultFormat.JSON:
            return _json(frames)
        case ResultFormat.NDJSON:
            return _ndjson(frames)
        case _:
            assert_never(form)


async def _texts(
    frames: AsyncGenerator[pl.DataFrame, None], form: ResultFormat, write: Callable[[pl.DataFrame, bool], str]
) -> AsyncGenerator[str, None]:
    """Yield what `write` makes of some rows at a time; it is told which ones are the first."""
    first = True
    async with aclosing(frames):
        async for frame in frames:
            _check(frame.schema, form)
            for rows in frame.iter_slices(_TEXT_ROWS) if frame.height else (frame,):
                if first or rows.height:
                    yield await asyncio.to_thread(_written, write, rows, first, form)
                    first = False


def _check(schema: pl.Schema, form: ResultFormat) -> None:
    """Refuse what Polars panics of."""
    binary = [name for name, dtype in schema.items() if anywhere(dtype, lambda one: one == pl.Binary)]
    if form in (ResultFormat.JSON, ResultFormat.NDJSON) and binary:
        raise NotAcceptableError(f"polars can't write binary columns as {form.value}: {', '.join(binary)}")


def _written(write: Callable[[pl.DataFrame, bool], str], rows: pl.DataFrame, first: bool, form: ResultFormat) -> str:
    try:
        return write(rows, first)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise NotAcceptableError(f"polars can't write this result as {form.value}: {error}") from error


async def _csv(frames: AsyncGenerator[pl.DataFrame, None]) -> AsyncGenerator[bytes, None]:
    def write(rows: pl.DataFrame, first: bool) -> str:
        return rows.write_csv(include_header=first)

    async with aclosing(_texts(frames, ResultFormat.CSV, write)) as texts:
        async for text in texts:
            yield text.encode()


async def _ndjson(frames: AsyncGenerator[pl.DataFrame, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(_texts(frames, ResultFormat.NDJSON, lambda rows, _: rows.write_ndjson())) as texts:
        async for text in texts:
            yield text.encode()


async def _json(frames: AsyncGenerator[pl.DataFrame, None]) -> AsyncGenerator[bytes, None]:
    """Join the arrays that Polars writes: ``[a,b]`` and ``[c]`` become ``[a,b,c]``."""
    before, between = "[", ""
    async with aclosing(_texts(frames, ResultFormat.JSON, lambda rows, _: rows.write_json())) as texts:
        async for text in texts:
            inner = text.strip()[1:-1]
            yield (before + (between if inner else "") + inner).encode()
            before, between = "", "," if inner else between
    yield b"]"


async def _parquet(frames: AsyncGenerator[pl.DataFrame, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(frames):
        with scratch_folder() as folder:
            path = folder / "result.parquet"
            await _write_parquet(frames, path)
            file = await asyncio.to_thread(path.open, "rb")
            try:
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    yield chunk
            finally:
                file.close()


async def _write_parquet(frames: AsyncGenerator[pl.DataFrame, None], path: Path) -> None:
    """Let Polars pull the frames into a file, from a thread of its own."""
    loop, stopped, raised = asyncio.get_running_loop(), threading.Event(), list[FrazilError]()
    first = await anext(frames)

    async def following() -> pl.DataFrame | None:
        return await anext(frames, None)

    def pull(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        del with_columns, predicate, n_rows, batch_size  # nothing is asked of a plan that only writes
        frame: pl.DataFrame | None = first
        while frame is not None:
            yield frame
            try:
                if stopped.is_set():
                    raise CancelledQueryError("nobody waits for the result any more")
                frame = asyncio.run_coroutine_threadsafe(following(), loop).result()
            except FrazilError as error:
                raised.append(error)
                raise

    writing = asyncio.ensure_future(asyncio.to_thread(register_io_source(pull, schema=first.schema).sink_parquet, path))
    try:
        await asyncio.shield(writing)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if raised:
            raise raised[0] from error
        raise NotAcceptableError(f"polars can't write this result as parquet: {error}") from error
    finally:
        stopped.set()
        if not writing.done():  # cancelled: the thread ends at its next block, and must not find the frames closed
            await asyncio.wait({writing})
