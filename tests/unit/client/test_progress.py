"""Progress bars: on a terminal only, gone at the end."""

from __future__ import annotations

import io

import polars as pl
from rich.console import Console

import frazil
from frazil._progress import ProgressBars
from support.sessions import FakeSession

LF = pl.LazyFrame({"a": [1, 2, 3]})


def drawn(*, terminal: bool) -> str:
    file = io.StringIO()
    bars = ProgressBars(Console(file=file, force_terminal=terminal, width=120))
    pl.collect_all([LF, LF], engine=frazil.Engine(FakeSession(), watch=bars.watch))
    return file.getvalue()


def test_nothing_is_drawn_elsewhere_than_on_a_terminal() -> None:
    assert drawn(terminal=False) == ""


def test_the_bars_of_a_terminal_are_taken_away_at_the_end() -> None:
    hide_cursor, show_cursor = "\x1b[?25l", "\x1b[?25h"
    text = drawn(terminal=True)
    assert text.count(hide_cursor) == text.count(show_cursor) == 1
