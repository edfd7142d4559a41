"""A session that answers from polars in this process: for tests of what lies above a session."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from frazil_coordinator.query_settings import AS_SETTINGS, Reusing
from frazil_coordinator.settings import Settings
from frazil_coordinator.status import Explanation, QueryEvent, QueryState, QueryStatus, StageProgress
from frazil_functions.errors import CancelledQueryError, FrazilError, to_wire
from frazil_functions.ids import QueryId, StageId

__all__ = ["FakeSession"]


@dataclass
class FakeSession:
    """Runs plans with polars at the moment they are waited for."""

    settings: Settings = field(default_factory=Settings)
    error: FrazilError | None = None
    """What queries end with."""

    fallbacks: tuple[str, ...] = ()
    interrupt: bool = False
    """Raise KeyboardInterrupt when somebody waits."""

    block_rows: int = 2
    """Rows of a result's blocks."""

    hold: bool = False
    """Queries don't end until `release` is set or they are cancelled."""

    release: threading.Event = field(default_factory=threading.Event)
    calls: list[str] = field(default_factory=list)
    """What was called, in order: ``submit q0``, ``wait q0`` ..."""

    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    priorities: dict[str, int] = field(default_factory=dict)
    reusings: dict[str, Reusing] = field(default_factory=dict)
    plans: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, QueryState] = field(default_factory=dict)
    silent: FrazilError | None = None
    """What whoever glances at a query is told in place of it."""

    profiles: dict[str, dict[str, object]] = field(default_factory=dict)
    """Of queries that used something."""

    started_unix_s: float | None = None
    closed: int = 0
    shares_files: bool = True

    def _status(self, query: QueryId) -> QueryStatus:
        state = self.states[query]
        error = {QueryState.FAILED: self.error, QueryState.CANCELLED: CancelledQueryError("cancelled")}.get(state)
        stage = StageProgress(stage=StageId(0), kind="scan", tasks=2, done=2 if state.ended else 0, rows=3)
        return QueryStatus(
            id=query,
            state=state,
            submitted_unix_s=0.0,
            started_unix_s=self.started_unix_s,
            error=None if error is None else to_wire(error),
            progress=(stage,),
            labels=self.labels[query],
            fallbacks=self.fallbacks,
        )

    def submit(
        self,
        plan: bytes,
        labels: Sequence[str],
        *,
        discard_result: bool = False,
        priority: int = 0,
        reusing: Reusing = AS_SETTINGS,
    ) -> QueryStatus:
        query = QueryId(f"q{len(self.plans)}")
        self.reusings[query] = reusing
        self.calls.append(f"submit {query}")
        self.priorities[query] = priority
        self.plans[query], self.labels[query], self.states[query] = plan, tuple(labels), QueryState.RUNNING
        return self._status(query)

    def status(self, query: QueryId) -> QueryStatus:
        self.calls.append(f"status {query}")
        return self._status(query)

    def wait(self, query: QueryId, timeout_s: float | None) -> QueryStatus:
        self.calls.append(f"wait {query}")
        if self.interrupt:
            raise KeyboardInterrupt
        if self.hold and not self.release.wait(timeout_s):
            return self._status(query)
        if not self.states[query].ended:
            self.states[query] = QueryState.SUCCEEDED if self.error is None else QueryState.FAILED
        return self._status(query)

    def events(self, query: QueryId) -> Iterator[QueryEvent]:
        yield QueryEvent(kind="state", status=self._status(query))
        yield QueryEvent(kind="state", status=self.wait(query, None))

    def batches(self, query: QueryId) -> Iterator[pl.DataFrame]:
        self.calls.append(f"batches {query}")
        frame = pl.LazyFrame.deserialize(io.BytesIO(self.plans[query])).collect(engine="in-memory")
        yield frame.clear()
        yield from frame.iter_slices(self.block_rows)

    def plan(self, query: QueryId, *, analyze: bool = False) -> Explanation:
        return Explanation(text=f"the plan of {query}")

    def profile(self, query: QueryId) -> dict[str, object]:
        self.calls.append(f"profile {query}")
        return self.profiles.get(query, {"query": query, "stages": []})

    def glance(self, query: QueryId, timeout_s: float) -> tuple[QueryStatus, dict[str, object] | None]:
        self.calls.append(f"glance {query}")
        if self.silent is not None:
            raise self.silent
        return self._status(query), self.profile(query)

    def cancel(self, query: QueryId) -> None:
        self.calls.append(f"cancel {query}")
        if not self.states[query].ended:
            self.states[query] = QueryState.CANCELLED
        self.release.set()

    def explain(self, plan: bytes, *, dry_run: bool = False) -> Explanation:
        return Explanation(text=f"a plan of {len(plan)} bytes")

    def queries(self, *, limit: int, state: QueryState | None = None, label: str | None = None) -> tuple[QueryStatus, ...]:
        found = [self._status(QueryId(query)) for query in reversed(self.plans)]
        return tuple(
            one for one in found if (state is None or one.state is state) and (label is None or label in one.labels)
        )[:limit]

    def close(self) -> None:
        self.closed += 1
