"""What a coordinator counts and times, for Prometheus (docs/metrics.md): one holder of metrics, on a registry of its own.

Nothing here looks at anything: the parts of the coordinator tell a :class:`Metrics` what happened, or
:mod:`frazil_coordinator.observing` makes its gauges look at them when they are scraped. No label holds an id, a path of a
user's, a text of a plan or of an error, so the number of series is bounded by the kinds of things that there are. Next:
:mod:`frazil_coordinator.api.health` answers ``GET /metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from frazil_coordinator.metric_maker import MetricMaker
from frazil_coordinator.status import QueryStatus
from frazil_functions.task import TaskStats

__all__ = [
    "REFUSED_TOKENS",
    "HttpMetrics",
    "Metrics",
    "QueryMetrics",
    "ReuseMetrics",
    "StageMetrics",
    "StoreMetrics",
    "TaskMetrics",
    "TriggerMetrics",
    "new_metrics",
]

REFUSED_TOKENS: Final = ("missing", "unknown", "invalid", "expired", "no_right", "role", "unanswered")
"""Why a token is refused (docs/metrics.md)."""

_HTTP_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_STORE_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_TASK_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_QUERY_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpMetrics:
    """Of the API; told by :mod:`frazil_coordinator.api.measuring`."""

    seconds: Histogram
    in_flight: Gauge
    refused_tokens: Counter
    """Told by :mod:`frazil_coordinator.api.auth`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryMetrics:
    """Of queries and their stages."""

    accepted: Counter
    ended: Counter
    errors: Counter
    seconds: Histogram
    now: Gauge
    oldest_waiting: Gauge
    stage_seconds: Histogram
    stage_failures: Counter

    def end(self, status: QueryStatus) -> None:
        """Count a query that has reached its end here."""
        state = status.state.value
        self.ended.labels(state).inc()
        if status.ended_unix_s is not None:
            self.seconds.labels(state).observe(max(0.0, status.ended_unix_s - status.submitted_unix_s))
        if status.error is None:
            return
        self.errors.labels(status.error.kind).inc()
        number = status.error.where.get("stage")
        for stage in status.progress:
            if str(stage.stage) == number:
                self.stage_failures.labels(stage.kind).inc()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMetrics:
    """Of attempts, whatever query they are of."""

    attempts: Counter
    retries: Counter
    failures: Counter
    cancellations: Counter
    cold_starts: Counter
    seconds: Histogram
    function_seconds: Counter
    bytes: Counter
    slots: Gauge
    slots_in_use: Gauge
    slots_wanted: Gauge
    functions: Gauge
    functions_busy: Gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreMetrics:
    """Of stores and the journal; told by :mod:`frazil_coordinator.metered`, and of functions by their answers."""

    seconds: Histogram
    requests: Counter
    bytes: Counter
    errors: Counter
    journal_seconds: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class ReuseMetrics:
    """Of answers that are used again."""

    tasks: Counter
    bytes: Counter
    results: Counter
    kept: Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerMetrics:
    """Of all triggers together; what one of them is behind is told by ``GET /v1/triggers/{name}``."""

    pending: Gauge
    oldest: Gauge
    dead: Gauge
    halted: Gauge
    notifications: Counter
    found: Counter
    windows: Counter
    objects: Counter
    seconds: Histogram
    announcements: Counter


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMetrics:
    """What the tasks of one kind of stage are told to: metrics whose label ``kind`` is set, so that a task costs little."""

    kind: str
    attempts: Counter
    retries: Counter
    cold_starts: Counter
    cancellations: Counter
    failures: Counter
    """Of all kinds of stages."""

    seconds: Histogram
    function_seconds: Counter
    bytes_in: Counter
    bytes_out: Counter
    store_requests: Counter
    """Of everybody."""

    def launched(self, attempt: int) -> None:
        """Count an attempt that is sent; from the second on (number 1) it is a retry."""
        self.attempts.inc()
        if attempt:
            self.retries.inc()

    def succeeded(self, stats: TaskStats, seconds: float) -> None:
        """Count an attempt that gave an answer `seconds` after it was sent."""
        self.seconds.observe(seconds)
        self.bytes_in.inc(stats.bytes_in)
        self.bytes_out.inc(stats.bytes_out)
        self._used(stats, stats.seconds)

    def failed(self, error: str, stats: TaskStats, seconds: float) -> None:
        """Count an attempt that gave none `seconds` after it was sent; its `error` is the kind of an error."""
        self.failures.labels(self.kind, error).inc()
        self._used(stats, stats.seconds or seconds)

    def cancelled(self, seconds: float) -> None:
        """Count an attempt that was not needed any more."""
        self.cancellations.inc()
        self.function_seconds.inc(seconds)

    def _used(self, stats: TaskStats, seconds: float) -> None:
        self.function_seconds.inc(seconds)
        for operation, requests in stats.requests.items():
            self.store_requests.labels("functions", operation).inc(requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """All metrics of one coordinator; made by :func:`new_metrics`. May be told from any thread."""

    made: MetricMaker
    http: HttpMetrics
    queries: QueryMetrics
    tasks: TaskMetrics
    store: StoreMetrics
    reuse: ReuseMetrics
    triggers: TriggerMetrics
    lineage: Counter
    """Events of OpenLineage; told by :mod:`frazil_coordinator.lineage`."""

    leader: Gauge
    stages: dict[str, StageMetrics] = field(default_factory=dict)
    """Filled by :meth:`stage`."""

    def stage(self, kind: str) -> StageMetrics:
        """Return what tasks of a kind of stage (`frazil_coordinator.plan.model.StageKind`) are told to."""
        if (known := self.stages.get(kind)) is not None:
            return known
        made = StageMetrics(
            kind=kind,
            attempts=self.tasks.attempts.labels(kind),
            retries=self.tasks.retries.labels(kind),
            cold_starts=self.tasks.cold_starts.labels(kind),
            cancellations=self.tasks.cancellations.labels(kind),
            failures=self.tasks.failures,
            seconds=self.tasks.seconds.labels(kind),
            function_seconds=self.tasks.function_seconds.labels(kind),
            bytes_in=self.tasks.bytes.labels("in"),
            bytes_out=self.tasks.bytes.labels("out"),
            store_requests=self.store.requests,
        )
        return self.stages.setdefault(kind, made)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics now, and their media type: by ``Accept`` the text format of Prometheus, or OpenMetrics."""
        return self.made.render(accept)


def new_metrics() -> Metrics:
    """Return metrics that count from 0, and share nothing with others of the same process."""
    make = MetricMaker()
    return Metrics(
        made=make,
        http=_http(make),
        queries=_queries(make),
        tasks=_tasks(make),
        store=_store(make),
        reuse=_reuse(make),
        triggers=_triggers(make),
        lineage=make.counter("frazil_lineage_events_total", "Events of OpenLineage: sent, failed, dropped", ("outcome",)),
        leader=make.gauge("frazil_leader", "1 while this coordinator leads, else 0"),
    )


def _http(make: MetricMaker) -> HttpMetrics:
    text = (
        "Seconds from a request's head to the last byte of its answer: of long-polls, event streams, results the whole time"
    )
    return HttpMetrics(
        seconds=make.histogram("frazil_http_request_seconds", text, _HTTP_S, ("route", "method", "status")),
        in_flight=make.gauge("frazil_http_requests_in_flight", "Requests that are being answered"),
        refused_tokens=_refused_tokens(make),
    )


def _refused_tokens(make: MetricMaker) -> Counter:
    text = "Requests that were refused for their token, or for having none, by reason"
    made = make.counter("frazil_refused_tokens_total", text, ("reason",))
    for reason in REFUSED_TOKENS:
        made.labels(reason)  # from the start on, so that the first one is a rise
    return made


def _queries(make: MetricMaker) -> QueryMetrics:
    oldest = "Age of the oldest query of which no task was sent yet; 0 without one"
    errors = "Queries that failed or were cancelled, by kind of error"
    stage = "Seconds from the first task sent to the last answer"
    return QueryMetrics(
        accepted=make.counter("frazil_queries_accepted_total", "Queries accepted; with a journal, made durable"),
        ended=make.counter("frazil_queries_ended_total", "Queries that reached their end here, by end", ("state",)),
        errors=make.counter("frazil_query_errors_total", errors, ("error",)),
        seconds=make.histogram("frazil_query_seconds", "Seconds from submission to end, by end", _QUERY_S, ("state",)),
        now=make.gauge("frazil_queries", "Queries that are planning, queued or running now", ("state",)),
        oldest_waiting=make.gauge("frazil_oldest_waiting_query_seconds", oldest),
        stage_seconds=make.histogram("frazil_stage_seconds", stage, _QUERY_S, ("kind",)),
        stage_failures=make.counter("frazil_stage_failures_total", "Stages that failed their query", ("kind",)),
    )


def _tasks(make: MetricMaker) -> TaskMetrics:
    kind = ("kind",)
    failures = "Attempts that ended without an answer, by kind of error"
    function = "Seconds in functions, of failed and cancelled attempts too"
    moved = "Encoded bytes that tasks read of blocks (in), and wrote or sent inline (out)"
    wanted = "Slots that queries wait for: tasks that are ready and not sent"
    return TaskMetrics(
        attempts=make.counter("frazil_task_attempts_total", "Attempts sent to functions", kind),
        retries=make.counter("frazil_task_retries_total", "Attempts that are not the first of their task", kind),
        failures=make.counter("frazil_task_failures_total", failures, (*kind, "error")),
        cancellations=make.counter("frazil_task_cancellations_total", "Attempts that were not needed any more", kind),
        cold_starts=make.counter("frazil_task_cold_starts_total", "Attempts that were the first of their function", kind),
        seconds=make.histogram("frazil_task_seconds", "Seconds from sending an attempt to its answer", _TASK_S, kind),
        function_seconds=make.counter("frazil_task_function_seconds_total", function, kind),
        bytes=make.counter("frazil_exchange_bytes_total", moved, ("direction",)),
        slots=make.gauge("frazil_slots", "Attempts that may be in flight at once"),
        slots_in_use=make.gauge("frazil_slots_in_use", "Slots that queries have"),
        slots_wanted=make.gauge("frazil_slots_wanted", wanted),
        functions=make.gauge("frazil_functions", "Functions that exist, as far as the platform knows"),
        functions_busy=make.gauge("frazil_functions_busy", "Functions that run a task"),
    )


def _reuse(make: MetricMaker) -> ReuseMetrics:
    tasks = "Tasks that were not run, because their answers were there or came from another query"
    scan = "Compressed bytes of files that were not read, because tasks were reused"
    return ReuseMetrics(
        tasks=make.counter("frazil_reused_tasks_total", tasks, ("kind",)),
        bytes=make.counter("frazil_reused_scan_bytes_total", scan),
        results=make.counter("frazil_reused_results_total", "Queries that were answered with an earlier result"),
        kept=make.counter("frazil_kept_answers_total", "Answers of tasks that were kept for reuse"),
    )


def _triggers(make: MetricMaker) -> TriggerMetrics:
    pending = "Objects that triggers know and that are not in their outputs"
    oldest = "Age of the oldest of them since it was noticed, of any trigger; 0 without one"
    halted = "Triggers that wait for somebody's help"
    told = "Events that producers sent, by form, and by whether they concerned a trigger"
    found = "New objects, by what told of them first"
    windows = "Windows that ended, by how: published, or failed by data, by the query, or to be tried later"
    seconds = "Seconds from noticing the oldest object of a window to its output being visible"
    announced = "CloudEvents sent about queries and triggers, by outcome"
    return TriggerMetrics(
        pending=make.gauge("frazil_trigger_pending_objects", pending),
        oldest=make.gauge("frazil_trigger_oldest_object_seconds", oldest),
        dead=make.gauge("frazil_trigger_dead_letters", "Objects that triggers have given up"),
        halted=make.gauge("frazil_triggers_halted", halted),
        notifications=make.counter("frazil_notifications_total", told, ("form", "concerned")),
        found=make.counter("frazil_trigger_objects_found_total", found, ("by",)),
        windows=make.counter("frazil_trigger_windows_total", windows, ("outcome",)),
        objects=make.counter("frazil_trigger_objects_total", "Objects that came into outputs"),
        seconds=make.histogram("frazil_trigger_seconds", seconds, _QUERY_S),
        announcements=make.counter("frazil_announcements_total", announced, ("outcome",)),
    )


def _store(make: MetricMaker) -> StoreMetrics:
    by = ("by", "operation")
    seconds = "Seconds of an operation of the coordinator, for the exchange or the journal"
    requests = "Requests to the store, by who sent them: coordinator, functions, journal"
    moved = "Bytes that the coordinator read and wrote, for the exchange or the journal"
    errors = "Operations of the coordinator that failed, by kind of error"
    journal = "Seconds until a segment of a journal was durable, tries again included"
    return StoreMetrics(
        seconds=make.histogram("frazil_store_operation_seconds", seconds, _STORE_S, by),
        requests=make.counter("frazil_store_requests_total", requests, by),
        bytes=make.counter("frazil_store_bytes_total", moved, by),
        errors=make.counter("frazil_store_errors_total", errors, (*by, "error")),
        journal_seconds=make.histogram("frazil_journal_append_seconds", journal, _STORE_S),
    )
