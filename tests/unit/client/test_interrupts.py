"""Ctrl-C while a plan is written is not lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import polars as pl
import pytest

from frazil._serialize import serialize


class _InterruptedWhilePickled:
    """A function of the user's; while polars pickles it, somebody presses Ctrl-C."""

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame

    def __getstate__(self) -> dict[str, object]:
        signal.raise_signal(signal.SIGINT)
        return {}


@pytest.fixture(autouse=True)
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt: a process that a shell started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_while_polars_pickles_is_raised_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    lf = pl.LazyFrame({"a": [1]}).map_batches(_InterruptedWhilePickled(), schema={"a": pl.Int64})
    with pytest.raises(KeyboardInterrupt):
        serialize(lf, max_plan_bytes=1 << 20)
    assert signal.getsignal(signal.SIGINT) is before
