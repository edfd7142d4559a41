"""What a run of PDS-H prints, and what it writes into docs/pdsh.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table

from benchmarks.pdsh.harness import Outcome

__all__ = ["as_markdown", "as_table", "write_section"]

_HEADINGS = ("query", "stages", "tasks", "attempts", "in one task", "Frazil s", "Polars s", "answer")


def _cells(outcome: Outcome) -> tuple[str, ...]:
    figures = outcome.figures
    reasons = "; ".join(dict.fromkeys(figures.fallbacks)) or "-"
    return (
        f"Q{outcome.number}",
        str(len(figures.stages)),
        str(figures.tasks),
        str(figures.attempts),
        reasons,
        f"{outcome.seconds:.2f}",
        f"{outcome.polars_seconds:.2f}",
        "equal" if outcome.difference is None else outcome.difference,
    )


def _totals(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    whole = sum(not outcome.figures.early_fallbacks for outcome in outcomes)
    equal = sum(outcome.difference is None for outcome in outcomes)
    return (
        "all",
        str(sum(len(outcome.figures.stages) for outcome in outcomes)),
        str(sum(outcome.figures.tasks for outcome in outcomes)),
        str(sum(outcome.figures.attempts for outcome in outcomes)),
        f"{whole} of {len(outcomes)} without, before the final stage",
        f"{sum(outcome.seconds for outcome in outcomes):.1f}",
        f"{sum(outcome.polars_seconds for outcome in outcomes):.1f}",
        f"{equal} of {len(outcomes)} equal",
    )


def as_table(title: str, outcomes: Sequence[Outcome]) -> Table:
    """Return the outcomes as a table for the terminal."""
    table = Table(title=title, title_justify="left", show_footer=True)
    for heading, total in zip(_HEADINGS, _totals(outcomes), strict=True):
        number = heading not in ("query", "in one task", "answer")
        table.add_column(heading, total, justify="right" if number else "left", no_wrap=number or heading == "query")
    for outcome in outcomes:
        table.add_row(*_cells(outcome), style=None if outcome.difference is None else "red")
    return table


def as_markdown(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes as a section of a page."""
    rows: list[tuple[str, ...]] = [_HEADINGS, ("---", *("---:",) * 3, "---", "---:", "---:", "---")]
    rows += [_cells(outcome) for outcome in outcomes]
    rows.append(tuple(f"**{cell}**" for cell in _totals(outcomes)))
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join((f"### {title}", "", *lines))


def write_section(page: Path, name: str, sections: Iterable[str]) -> None:
    """Replace what stands in `page` between ``<!-- name: begin -->`` and ``<!-- name: end -->``.

    Raises
    ------
    ValueError
        When the page has no such place.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no lines {begin!r} and {end!r}")
    page.write_text(before + begin + "\n\n" + "\n\n".join(sections) + "\n\n" + end + after)
