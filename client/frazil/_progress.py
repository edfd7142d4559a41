"""Progress bars by stage on standard error, for the command line and for scripts that want them.

Bars are drawn on a terminal only. :class:`ProgressBars` is given to an engine as ``watch``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from frazil._query import Query
from frazil_coordinator.status import QueryStatus
from frazil_functions.errors import FrazilError

__all__ = ["ProgressBars"]

_log = logging.getLogger(__name__)


class ProgressBars:
    """Shows one bar a stage of every query that is waited for.

    Parameters
    ----------
    console
        Where to draw; by default standard error.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._watched = 0

    @contextmanager
    def watch(self, query: Query) -> Iterator[None]:
        """Show the query's bars while the context lasts."""
        if not self._console.is_terminal:
            yield
            return
        progress = self._begin()
        bars = _QueryBars(query, progress)
        try:
            yield
        finally:
            bars.stop()
            self._end()

    def _begin(self) -> Progress:
        with self._lock:
            self._watched += 1
            if self._progress is None:
                self._progress = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=30),
                    MofNCompleteColumn(),
                    TextColumn("{task.fields[rows]}"),
                    TimeElapsedColumn(),
                    console=self._console,
                    transient=True,
                )
                self._progress.start()
            return self._progress

    def _end(self) -> None:
        """Take the bars away with the last query: a terminal shows one live display at a time."""
        with self._lock:
            self._watched -= 1
            if self._watched == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


class _QueryBars:
    """The bars of one query, moved by a thread that listens to its events."""

    def __init__(self, query: Query, progress: Progress) -> None:
        self._query = query
        self._progress = progress
        self._bars: dict[int, TaskID] = {}
        self._lock = threading.Lock()
        self._stopped = False
        threading.Thread(target=self._listen, name="frazil-progress", daemon=True).start()

    def _listen(self) -> None:
        try:
            for event in self._query.events():
                with self._lock:
                    if self._stopped:
                        return
                    self._show(event.status)
        except FrazilError as error:  # the one who waits for the query meets it too
            _log.debug("no more progress", extra={"query": self._query.id, "error": str(error)})

    def _show(self, status: QueryStatus) -> None:
        for stage in status.progress:
            bar = self._bars.get(stage.stage)
            if bar is None:
                name = f"[dim]{status.id[:8]}[/] {stage.stage:>2} {stage.kind:<9}"
                bar = self._bars[stage.stage] = self._progress.add_task(name, total=stage.tasks, rows="")
            retried = max(0, stage.attempts - stage.done - stage.running)
            rows = f"{stage.rows:,} rows" + (f", {retried} retried" if retried else "")
            self._progress.update(bar, total=stage.tasks, completed=stage.done, rows=rows)

    def stop(self) -> None:
        """Take the bars away; events that still come are not shown."""
        with self._lock:
            self._stopped = True
            for bar in self._bars.values():
                self._progress.remove_task(bar)
