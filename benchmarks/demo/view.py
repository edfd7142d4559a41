"""How the demonstration looks: headings, live progress by stage, tables; plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.rule import Rule
from rich.table import Table

import frazil
from benchmarks.figures import QueryFigures
from benchmarks.pdsh.harness import Outcome
from frazil import QueryEvent, StageProgress
from frazil_coordinator.prices import Prices

__all__ = ["View", "size"]

_PLAIN_WIDTH = 120
_RESULT_ROWS = 10


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class View:
    """What the user sees.

    Parameters
    ----------
    console
        Where it goes; by default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal:
            self.console = Console(highlight=False, width=_PLAIN_WIDTH)

    def title(self, text: str) -> None:
        """Show the first line."""
        self.console.print(f"[bold]{escape(text)}[/]")

    def step(self, name: str, text: str) -> None:
        """Show one thing that happened."""
        self.console.print(f"[cyan]{name:<12}[/] {escape(text)}", soft_wrap=True)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.console.print()
        self.console.print(Rule(f"[bold]{escape(text)}[/]", align="left", style="cyan"))

    def error(self, text: str) -> None:
        """Show why it did not go on."""
        self.console.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)

    def text(self, text: str) -> None:
        """Show some text as it is, moved in."""
        for line in text.rstrip().splitlines():
            self.console.print(f"  {line}", markup=False, soft_wrap=True)

    @contextmanager
    def upload(self, total: int) -> Iterator[Progress]:
        """Show the progress of moving `total` bytes: call ``advance(TaskID(0), bytes)`` on what it yields."""
        columns = (TextColumn("[cyan]upload[/]      "), BarColumn(bar_width=40), DownloadColumn())
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            progress.add_task("upload", total=total)
            yield progress

    def follow(self, events: Iterable[QueryEvent]) -> None:
        """Show the progress of a query by stage until it has ended."""
        if self.console.is_terminal:
            self._bars(events)
        else:
            self._lines(events)

    def _bars(self, events: Iterable[QueryEvent]) -> None:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("tasks  {task.fields[more]}"),
        )
        with Progress(*columns, console=self.console) as progress:
            bars: dict[int, TaskID] = {}
            for event in events:
                for stage in event.status.progress:
                    if stage.stage not in bars:
                        bars[stage.stage] = progress.add_task(_name(stage), total=stage.tasks, more="")
                    progress.update(bars[stage.stage], total=stage.tasks, completed=stage.done, more=_more(stage))

    def _lines(self, events: Iterable[QueryEvent]) -> None:
        shown: set[int] = set()
        for event in events:
            for stage in event.status.progress:
                if stage.stage not in shown and stage.done == stage.tasks:
                    shown.add(stage.stage)
                    self.text(f"{_name(stage)} {stage.done}/{stage.tasks} tasks  {_more(stage)}")

    def result(self, frame: pl.DataFrame) -> None:
        """Show the first rows of an answer."""
        width = self.console.width - 4
        with pl.Config(tbl_rows=_RESULT_ROWS, tbl_width_chars=width, float_precision=2, tbl_hide_dataframe_shape=True):
            self.text(str(frame.head(_RESULT_ROWS)))
        if frame.height > _RESULT_ROWS:
            self.text(f"... and {frame.height - _RESULT_ROWS:,} rows more")

    def stages(self, figures: QueryFigures) -> None:
        """Show what each stage did."""
        headings = (
            "stage",
            "",
            "tasks",
            "attempts",
            "rows in",
            "rows out",
            "bytes in",
            "bytes out",
            "GET",
            "PUT",
            "s",
            "cold",
        )
        table = Table(box=None, header_style="dim")
        for heading in headings:
            table.add_column(heading, justify="left" if heading == "" else "right", no_wrap=True)
        for stage in figures.stages:
            table.add_row(
                str(stage.stage),
                stage.kind,
                str(stage.tasks),
                str(stage.attempts),
                f"{stage.rows_in:,}",
                f"{stage.rows_out:,}",
                size(stage.bytes_in),
                size(stage.bytes_out),
                str(stage.requests.get("get", 0)),
                str(stage.requests.get("put", 0)),
                f"{stage.seconds:.2f}",
                str(stage.cold_starts),
            )
        self.console.print(Padding(table, (0, 0, 0, 1)))
        for reason in dict.fromkeys(figures.fallbacks):
            self.text(f"in one task: {reason}")

    def cost(self, figures: QueryFigures) -> None:
        """Show what a query cost, by the coordinator's price table."""
        requests = f"{figures.requests.get('put', 0)} PUT and {figures.requests.get('get', 0)} GET on the exchange"
        used = f"{figures.function_seconds:.1f} function-seconds, {size(figures.bytes_scanned)} scanned, {requests}"
        self.text(f"cost: {used}: ${figures.dollars:.5f}")

    def verdict(self, outcome: Outcome) -> None:
        """Show whether an answer is Polars's."""
        if outcome.difference is None:
            times = f"{outcome.seconds:.1f} s here, {outcome.polars_seconds:.1f} s there"
            self.console.print(f"  [bold green]equal[/] to single-node Polars on the same files ({times})")
        else:
            self.console.print(
                f"  [bold red]DIFFERENT[/] from single-node Polars: {escape(outcome.difference)}", soft_wrap=True
            )

    def summary(self, outcomes: Sequence[Outcome]) -> None:
        """Show all queries in a table, and the prices that the costs are made of."""
        table = Table(box=None, header_style="dim")
        table.add_column("query")
        for heading in ("stages", "tasks", "attempts", "cold starts", "exchanged", "s", "Polars s", "cost"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("answer")
        for outcome in outcomes:
            figures = outcome.figures
            table.add_row(
                f"Q{outcome.number}",
                str(len(figures.stages)),
                str(figures.tasks),
                str(figures.attempts),
                str(sum(stage.cold_starts for stage in figures.stages)),
                size(sum(stage.bytes_out for stage in figures.stages)),
                f"{outcome.seconds:.1f}",
                f"{outcome.polars_seconds:.1f}",
                f"${figures.dollars:.5f}",
                "[green]equal[/]" if outcome.difference is None else "[red]DIFFERENT[/]",
            )
        self.console.print(Padding(table, (0, 0, 0, 1)))
        self.console.print(
            f"[dim]at {escape(_prices(frazil.Settings()))}; idle: $0, but for the coordinator[/]", soft_wrap=True
        )


def _prices(settings: frazil.Settings) -> str:
    prices = Prices.of(settings)
    function = f"${prices.function_second * 3600:.3f} an hour of a function"
    size_of_it = f"({prices.function_vcpus:g} vCPU, {prices.function_gib:g} GiB)"
    requests = f"${prices.thousand_puts * 1000:.2f} a million PUT, ${prices.thousand_gets * 1000:.2f} a million GET"
    return f"{function} {size_of_it}, {requests}"


def _name(stage: StageProgress) -> str:
    return f"stage {stage.stage:>2} {stage.kind:<9}"


def _more(stage: StageProgress) -> str:
    running = f"{stage.running} running  " if stage.running else ""
    return f"{running}{stage.rows:,} rows  {size(stage.bytes)}" if stage.done or running else ""
