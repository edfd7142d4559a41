"""What ``frazil explain`` and ``frazil run --dry-run`` share: plans on the screen, and a session that runs nothing."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import polars as pl
from rich.console import Console
from rich.highlighter import RegexHighlighter
from rich.text import Text
from rich.theme import Theme

from frazil._session import Session
from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus
from frazil_functions.ids import QueryId

__all__ = ["PlansOnly", "show"]

_THEME: Final = Theme(
    {
        "plan.stage": "bold cyan",
        "plan.tree": "dim",
        "plan.source": "green",
        "plan.warning": "bold yellow",
        "plan.adaptation": "magenta",
        "plan.head": "dim",
        "plan.total": "bold",
    }
)


class _PlanHighlighter(RegexHighlighter):
    """Colours the text of an explanation."""

    base_style = "plan."
    highlights = [  # noqa: RUF012  # the base class declares it as an attribute of the instance
        r"(?P<stage>STAGE \d+ \w+)",
        r"(?P<tree>[│├└─]+)",
        r"(?P<source>← .*)$",
        r"(?P<warning>! .*)$",
        r"(?P<adaptation>\* .*)$",
        r"(?m)(?P<head>^stage .*$)",
        r"(?m)(?P<total>^total .*$)",
    ]


def show(explanation: Explanation, as_json: bool) -> None:
    """Write an explanation to standard output; in colours where that is a terminal."""
    console = Console(theme=_THEME, highlight=False, soft_wrap=True)
    if as_json:
        console.print(msgspec.json.format(msgspec.json.encode(explanation)).decode(), markup=False)
        return
    for line in explanation.text.splitlines():
        text = Text(line)
        _PlanHighlighter().highlight(text)
        console.print(text)


class PlansOnly:
    """A session that shows the plan of every query that is submitted to it, and answers with no rows.

    Parameters
    ----------
    inner
        Plans.
    dry_run
        Whether a query above a cap is refused.
    as_json
        Whether plans are shown as JSON, one document after the other.
    """

    def __init__(self, inner: Session, *, dry_run: bool = False, as_json: bool = False) -> None:
        self._inner = inner
        self._dry_run = dry_run
        self._as_json = as_json
        self._plans: list[bytes] = []

    @property
    def shown(self) -> int:
        """Number of plans that were shown."""
        return len(self._plans)

    @property
    def settings(self) -> Settings:
        """Settings of the session that plans."""
        return self._inner.settings

    @property
    def shares_files(self) -> bool:
        """As the session's."""
        return self._inner.shares_files

    def submit(
        self,
        plan: bytes,
        labels: Sequence[str],
        *,
        discard_result: bool = False,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        """Show the plan."""
        del discard_result, priority, reusing
        explanation = self._inner.explain(plan, dry_run=self._dry_run)
        if not self._as_json:
            head = f"query {len(self._plans)}" + "".join(f" {one}" for one in labels)
            Console(highlight=False, soft_wrap=True).print(("\n" if self._plans else "") + head, markup=False)
        show(explanation, self._as_json)
        self._plans.append(plan)
        return self.status(QueryId(str(len(self._plans) - 1)))

    def status(self, query: QueryId) -> QueryStatus:
        """Return that it succeeded."""
        return QueryStatus(id=query, state=QueryState.SUCCEEDED, submitted_unix_s=time.time())

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        """Return that it succeeded."""
        del timeout_s
        return self.status(query)

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        """Yield that it succeeded."""
        yield QueryEvent(kind="state", status=self.status(query))

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        """Yield no rows."""
        plan = pl.LazyFrame.deserialize(io.BytesIO(self._plans[int(query)]))
        yield pl.DataFrame(schema=plan.collect_schema())

    def plan(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        """Return the plan."""
        del analyze
        return self._inner.explain(self._plans[int(query)])

    def profile(self, query: QueryId) -> dict[str, object]:
        """Return that nothing was used."""
        return {"query": query, "stages": []}

    def glance(self, query: QueryId, timeout_s: float) -> tuple[QueryStatus, dict[str, object] | None]:
        """Return that it succeeded, and used nothing."""
        del timeout_s
        return self.status(query), self.profile(query)

    def cancel(self, query: QueryId) -> None:
        """Do nothing: nothing runs."""
        del query

    def explain(self, plan: bytes, *, dry_run: bool = False) -> Explanation:
        """Return how a plan would be cut into stages."""
        return self._inner.explain(plan, dry_run=dry_run)

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        """Return the newest queries of the coordinator."""
        return self._inner.queries(limit=limit, state=state, label=label)

    def close(self) -> None:
        """End the session."""
        self._inner.close()
