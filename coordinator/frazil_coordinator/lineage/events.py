"""The events of one query's run, in the forms of OpenLineage 2-0-2. Values only.

Each facet says of which version of its own schema it is; tests hold them against the published schemas.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, Literal, TypeAlias

import msgspec
import polars as pl

from frazil_coordinator.lineage.datasets import Input, Output
from frazil_coordinator.status import QueryState, QueryStatus
from frazil_functions.errors import WireError
from frazil_functions.ids import QueryId

__all__ = ["EventType", "Run", "RunEvent", "end_event", "run_id", "start_event"]

EventType: TypeAlias = Literal["START", "RUNNING", "COMPLETE", "ABORT", "FAIL"]
Facet: TypeAlias = dict[str, object]

_SPEC: Final = "https://openlineage.io/spec"
_PRODUCER: Final = f"urn:frazil:coordinator:{version('frazil')}"
_VERSIONS: Final = {
    "ErrorMessageRunFacet": "1-0-1",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ProcessingEngineRunFacet": "1-1-1",
    "SQLJobFacet": "1-1-0",
    "SchemaDatasetFacet": "1-2-0",
    "TagsRunFacet": "1-0-0",
}
"""Facets that are used → version of each one's schema."""

_MESSAGE_CHARACTERS: Final = 2_000
_STATES: Final[Mapping[QueryState, EventType]] = {
    QueryState.SUCCEEDED: "COMPLETE",
    QueryState.CANCELLED: "ABORT",
    QueryState.FAILED: "FAIL",
}
_SECRET_OF_URL: Final = re.compile(r"(?<=://)[^/\s@]+@|\?[^\s'\"]*(?:sig|token|key|secret)[^\s'\"]*", re.IGNORECASE)


class _Run(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    run_id: str
    facets: dict[str, Facet]


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    namespace: str
    name: str
    facets: dict[str, Facet]


class _Dataset(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    namespace: str
    name: str
    facets: dict[str, Facet] = {}
    input_facets: dict[str, Facet] = {}
    output_facets: dict[str, Facet] = {}


class RunEvent(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"event_type": "eventType", "event_time": "eventTime", "schema_url": "schemaURL"},
):
    """One event, as it is sent."""

    event_type: EventType
    event_time: str
    run: _Run
    job: _Job
    inputs: tuple[_Dataset, ...]
    outputs: tuple[_Dataset, ...]
    producer: str = _PRODUCER
    schema_url: str = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is the same in all events of a query."""

    query: QueryId
    tenant: str
    labels: tuple[str, ...]
    sql: str
    """The statement that it was made of; empty when there is none."""

    namespace: str
    """Of its job."""

    inputs: tuple[Input, ...] = ()
    output: Output | None = None

    @property
    def job_name(self) -> str:
        """Name of what is run again and again: the query's first label, or what it reads and writes.

        Of a query without a label it is a digest of its statement, or of its datasets; a label is the better name.
        """
        if self.labels:
            return f"{self.tenant}.{self.labels[0]}"
        datasets: list[Input | Output] = [*self.inputs, *([] if self.output is None else [self.output])]
        places = [(one.namespace, one.name) for one in datasets]
        digest = hashlib.sha256((self.sql or repr(places)).encode()).hexdigest()[:12]
        return f"{self.tenant}.{'sql' if self.sql else 'query'}-{digest}"


def run_id(query: QueryId) -> str:
    """Return the id of the run of a query: UUIDv5 of ``urn:frazil:query:<id>`` in the namespace of URLs."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:frazil:query:{query}"))


def start_event(run: Run, unix_s: float, *, again: bool = False) -> RunEvent:
    """Return the event of a query that begins; `again`: that another coordinator goes on with, after it had told so."""
    return _event(run, "RUNNING" if again else "START", unix_s)


def end_event(run: Run, status: QueryStatus, sink: Mapping[str, object] | None) -> RunEvent:
    """Return the event of a query that has ended.

    Parameters
    ----------
    run
        The query.
    status
        How it ended.
    sink
        What it wrote, by its profile; None when it wrote nothing.
    """
    error = {} if status.error is None else {"errorMessage": _error(status.error)}
    ended = status.ended_unix_s or status.submitted_unix_s
    return _event(run, _STATES.get(status.state, "FAIL"), ended, facets=error, sink=sink)


def _event(
    run: Run,
    kind: EventType,
    unix_s: float,
    *,
    facets: Mapping[str, Facet] | None = None,
    sink: Mapping[str, object] | None = None,
) -> RunEvent:
    own = version("frazil")
    engine = _facet(
        "ProcessingEngineRunFacet", {"version": pl.__version__, "name": "Polars", "openlineageAdapterVersion": own}
    )
    tags = [("frazil.query", run.query), ("frazil.tenant", run.tenant), *(("frazil.label", label) for label in run.labels)]
    fields = [{"key": key, "value": value, "source": "FRAZIL"} for key, value in tags]
    job: dict[str, Facet] = {
        "jobType": _facet("JobTypeJobFacet", {"processingType": "BATCH", "integration": "FRAZIL", "jobType": "QUERY"})
    }
    if run.sql:
        job["sql"] = _facet("SQLJobFacet", {"query": run.sql, "dialect": "polars"})
    return RunEvent(
        event_type=kind,
        event_time=datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        run=_Run(
            run_id=run_id(run.query),
            facets={
                "processing_engine": _facet("ProcessingEngineRunFacet", engine),
                "tags": _facet("TagsRunFacet", {"tags": fields}),
                **(facets or {}),
            },
        ),
        job=_Job(namespace=run.namespace, name=run.job_name, facets=job),
        inputs=tuple(_input(one) for one in run.inputs),
        outputs=() if run.output is None else (_output(run.output, sink),),
    )


def _facet(name: str, members: Mapping[str, object]) -> Facet:
    url = f"{_SPEC}/facets/{_VERSIONS[name]}/{name}.json#/$defs/{name}"
    return {"_producer": _PRODUCER, "_schemaURL": url, **members}


def _input(one: Input) -> _Dataset:
    facets: dict[str, Facet] = {}
    if one.schema is not None:
        facets["schema"] = _facet("SchemaDatasetFacet", {"fields": _fields(list(one.schema.items()))})
    known = {"fileCount": one.files, "size": one.bytes}
    figures = {name: value for name, value in known.items() if value is not None}
    read = {"inputStatistics": _facet("InputStatisticsInputDatasetFacet", figures)} if figures else {}
    return _Dataset(namespace=one.namespace, name=one.name, facets=facets, input_facets=read)


def _fields(columns: Sequence[tuple[str, pl.DataType]]) -> list[dict[str, object]]:
    return [_field(name, dtype, place) for place, (name, dtype) in enumerate(columns, 1)]


def _field(name: str, dtype: pl.DataType, place: int) -> dict[str, object]:
    field: dict[str, object] = {"name": name, "type": str(dtype), "ordinal_position": place}
    if isinstance(dtype, pl.Struct):
        inner = [(one.name, one.dtype) for one in dtype.fields]
        # The type of a field may be given as a class: the type of a table's column is always a value.
        field["fields"] = _fields([(own, kind() if isinstance(kind, type) else kind) for own, kind in inner])
    return field


def _output(one: Output, sink: Mapping[str, object] | None) -> _Dataset:
    names = {"rowCount": "rows", "size": "bytes", "fileCount": "files"}
    figures = {name: sink[own] for name, own in names.items() if sink is not None and isinstance(sink.get(own), int)}
    wrote = {"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", figures)} if figures else {}
    return _Dataset(namespace=one.namespace, name=one.name, output_facets=wrote)


def _error(error: WireError) -> Facet:
    """Return what a query failed with. Functions and planner leave credentials out; URLs of the user's are cut here."""
    kind = error.exception or error.kind
    place = ", ".join(f"{name} {error.where[name]}" for name in ("stage", "task") if name in error.where)
    message = _SECRET_OF_URL.sub("***", error.message.strip())[:_MESSAGE_CHARACTERS]
    text = f"{kind}: {message}" + (f" ({place})" if place else "")
    return _facet("ErrorMessageRunFacet", {"message": text, "programmingLanguage": "PYTHON"})
