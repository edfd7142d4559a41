"""The rows of a LazyFrame as a stream of frames that ends either with all rows given or with an error.

``LazyFrame.collect_batches`` of polars 2.1 ends without an error when its engine panics, as if there were no more rows.
``sink_batches`` of the same plan raises, but it calls instead of being asked: :func:`feed` is called, :func:`batches` runs
it in a thread and is asked. :func:`feed_whole` and :func:`whole` are the same by Polars' in-memory engine. Next on the main
path: :mod:`frazil_functions.run`, which writes the frames.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from queue import Empty, SimpleQueue
from typing import Final

import polars as pl

__all__ = ["batches", "feed", "feed_whole", "whole"]

_AHEAD: Final = 2
"""Frames that may wait for the reader; then the engine waits."""


_SLICE_ROWS: Final = 122_880
"""Rows of the frames of :func:`whole`: those of a row group that Polars writes by default."""


class _End:
    """What comes after the last frame."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def feed(
    lf: pl.LazyFrame, take: Callable[[pl.DataFrame], object], optimizations: pl.QueryOptFlags | None = None
) -> BaseException | None:
    """Call `take` with the rows of `lf` in order, as the streaming engine makes them; some frames may be empty.

    Parameters
    ----------
    lf
        The rows.
    take
        Called in threads of Polars' own, one call after the other, while the engine goes on in others; it may run queries.
    optimizations
        What Polars may do to the plan; None is everything.

    Returns
    -------
    BaseException or None
        What `take` raised, which stopped the engine: returned, so that it can't be taken for an error of Polars.

    Raises
    ------
    BaseException
        What Polars raises, its panics included (`polars.exceptions.PanicException` is no `Exception`).
    """
    failed: BaseException | None = None

    def call(frame: pl.DataFrame) -> bool:
        nonlocal failed
        if failed is None:
            try:
                take(frame)
            except BaseException as error:  # returned to the caller, who raises it
                failed = error
        return failed is not None

    try:
        lf.sink_batches(call, engine="streaming", maintain_order=True, optimizations=optimizations or pl.QueryOptFlags())
    except BaseException:
        if failed is None:
            raise
    return failed


def batches(lf: pl.LazyFrame, optimizations: pl.QueryOptFlags | None = None) -> Generator[pl.DataFrame, None, None]:
    """Yield the rows of `lf` in order, as the streaming engine makes them; some frames may be empty.

    Who stops reading early stops the engine with its next frame. `optimizations` is what Polars may do to the plan; None is
    everything.

    Raises
    ------
    BaseException
        What Polars raises, its panics included (`polars.exceptions.PanicException` is no `Exception`).
    """
    waiting: SimpleQueue[pl.DataFrame | _End] = SimpleQueue()
    places = threading.Semaphore(_AHEAD)
    stopped = threading.Event()

    def take(frame: pl.DataFrame) -> bool:
        if not stopped.is_set():
            places.acquire()
        if not stopped.is_set():
            waiting.put(frame)
        return stopped.is_set()

    def run() -> None:
        error: BaseException | None = None
        try:
            flags = optimizations or pl.QueryOptFlags()
            lf.sink_batches(take, engine="streaming", maintain_order=True, optimizations=flags)
        except BaseException as raised:  # handed to the reader, who raises it
            error = raised
        waiting.put(_End(error))

    thread = threading.Thread(target=run, name="frazil-batches", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            places.release()
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        places.release(_AHEAD)
        _forget(waiting)


def feed_whole(
    lf: pl.LazyFrame, take: Callable[[pl.DataFrame], object], optimizations: pl.QueryOptFlags | None = None
) -> BaseException | None:
    """Call `take` with the rows of `lf` in order, as the in-memory engine makes them; see :func:`feed` and :func:`whole`."""
    for frame in whole(lf, optimizations):
        try:
            take(frame)
        except BaseException as error:  # returned to the caller, who raises it
            return error
    return None


def whole(lf: pl.LazyFrame, optimizations: pl.QueryOptFlags | None = None) -> Generator[pl.DataFrame, None, None]:
    """Yield the rows of `lf` in order, as the in-memory engine makes them: all at once, before the first is given.

    Raises
    ------
    BaseException
        What Polars raises, its panics included (`polars.exceptions.PanicException` is no `Exception`).
    """
    yield from lf.collect(engine="in-memory", optimizations=optimizations or pl.QueryOptFlags()).iter_slices(_SLICE_ROWS)


def _forget(waiting: SimpleQueue[pl.DataFrame | _End]) -> None:
    """Let go of the frames that nobody reads any more."""
    while True:
        try:
            waiting.get_nowait()
        except Empty:
            return
