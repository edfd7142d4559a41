"""What ``collect_batches`` gives: a result that comes block by block, and is never held as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl
from polars.io.plugins import register_io_source

from frazil._query import Query, abandon

__all__ = ["QueryBatches"]


class QueryBatches:
    """An iterator over a query's result; also a stream of Arrow data.

    Parameters
    ----------
    submit
        Starts the query.
    schema
        Gives the schema of the result; asked only for an Arrow stream.
    chunk_size
        Rows of every frame but the last. None: as the blocks come.
    lazy
        Start the query with the first frame instead of at once.
    """

    def __init__(
        self, submit: Callable[[], Query], *, schema: Callable[[], pl.Schema], chunk_size: int | None, lazy: bool
    ) -> None:
        self._submit = submit
        self._schema = schema
        self._chunk_size = chunk_size
        self._query = None if lazy else submit()
        self._frames: Iterator[pl.DataFrame] | None = None
        self._ended = False

    def __iter__(self) -> QueryBatches:
        return self

    def __next__(self) -> pl.DataFrame:
        if self._frames is None:
            self._query = self._query or self._submit()
            frames = (frame for frame in self._query.batches() if frame.height)
            self._frames = frames if self._chunk_size is None else _rechunked(frames, self._chunk_size)
        try:
            return next(self._frames)
        except BaseException:
            self._ended = True
            raise

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        def source(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            del with_columns, predicate, n_rows, batch_size  # nothing is asked of a bare scan
            yield from self

        scan = register_io_source(source, schema=self._schema())
        batches = scan.collect_batches(
            engine=pl.StreamingEngine(), lazy=True, maintain_order=True, chunk_size=self._chunk_size
        )
        return batches.__arrow_c_stream__(requested_schema)

    def close(self) -> None:
        """Cancel the query if its result was not read to the end."""
        if self._query is None or self._ended:
            return
        self._ended = True
        abandon(self._query)

    def __del__(self) -> None:
        if hasattr(self, "_ended"):  # not so when the constructor raised
            self.close()


def _rechunked(frames: Iterator[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Yield the same rows in frames of `rows` rows."""
    waiting: pl.DataFrame | None = None
    for frame in frames:
        waiting = frame if waiting is None else pl.concat([waiting, frame], rechunk=False)
        while waiting.height >= rows:
            yield waiting.head(rows)
            waiting = waiting.slice(rows)
    if waiting is not None and waiting.height:
        yield waiting
