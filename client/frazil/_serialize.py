"""From a LazyFrame to the bytes that a coordinator takes.

A plan is sent as ``LazyFrame.serialize`` writes it, but for what means something only here:

* relative paths of scans and sinks become absolute: functions run in another working directory. (Not for a scan with
  ``include_file_paths``, whose paths are part of the answer.)
* the credential provider that ``scan_*("s3://...")`` and ``sink_*`` add by themselves is taken out: it is a Python object,
  which coordinators refuse. Functions use ``storage_options`` and the credentials of their own environment. A provider that
  somebody chose (an object, or a profile) is refused here with advice, because dropping it would change what is read.
* functions of ``pipe_with_schema`` are called (:mod:`frazil._pipes`), and what they return is sent;
* tables of a lake are asked for their files (:mod:`frazil_coordinator.catalog.datasets`), and scans of the files are sent;
* rows that only this process has are read (:mod:`frazil._streams`), and sent as frames.

Next on the main path: :mod:`frazil._session`.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator
from typing import Final, cast

import polars as pl

from frazil._iceberg import IcebergSink, iceberg_sink, is_iceberg_sink
from frazil._interrupts import interrupts_held
from frazil._pipes import resolve_pipes
from frazil._streams import resolve_held, rows_held
from frazil_coordinator.catalog.datasets import keep_versions, resolve_datasets
from frazil_functions.arena import Arena, Raw
from frazil_functions.arena_nodes import python_kinds
from frazil_functions.errors import PlanError, PythonPlanError

__all__ = ["SeveralSinksError", "TableSinkError", "check_local_target", "serialize"]

_GLOB_CHARACTERS: Final = frozenset("*?[")
_SINK_TARGETS: Final = {"File": "target", "Partitioned": "base_path"}
_POLARS_PICKLE_HEADER_BYTES: Final = 3
_BUILDER_MODULE: Final = "polars.io.cloud.credential_provider._builder"
_AUTOMATIC: Final = frozenset(
    {
        (_BUILDER_MODULE, "CredentialProviderBuilder"),
        (_BUILDER_MODULE, "AutoInit"),
        ("polars.io.cloud.credential_provider._providers", "CredentialProviderAWS"),
        ("polars.io.cloud.credential_provider._providers", "CredentialProviderAzure"),
        ("polars.io.cloud.credential_provider._providers", "CredentialProviderGCP"),
        ("polars.io.cloud._utils", "NoPickleOption"),
    }
)
_ADVICE: Final = (
    "pass the credentials by storage_options=, or credential_provider=None to use those of the functions' environment"
)


_SINK_ADVICE: Final = (
    "leave out file_path_provider, sinked_paths_callback and functions as metadata, use sink_batches with engine= for a "
    "callback, or let polars write in this process, with engine='streaming'"
)


class SeveralSinksError(PlanError):
    """The plan is one of several sinks (``pl.collect_all(…, lazy=True)``), which run as queries of their own.

    Attributes
    ----------
    sinks
        The queries.
    """

    def __init__(self, sinks: tuple[pl.LazyFrame, ...]) -> None:
        super().__init__("a plan of several sinks is several queries: collect it, or submit them one by one")
        self.sinks = sinks


class TableSinkError(PlanError):
    """The plan ends in a sink to a table of a lake, which this process commits when the files are written.

    Attributes
    ----------
    sink
        The query that writes the files, and the commit.
    """

    def __init__(self, sink: IcebergSink) -> None:
        super().__init__("a sink to an Iceberg table is committed by this process: collect it instead of submitting it")
        self.sink = sink


def serialize(lf: pl.LazyFrame, *, max_plan_bytes: int, shares_files: bool = True, runs: bool = True) -> bytes:
    """Return the plan of `lf` as a coordinator takes it.

    Parameters
    ----------
    lf
        The query.
    max_plan_bytes
        Largest plan that the coordinator accepts.
    shares_files
        Whether paths mean the same files for the coordinator; if not, a sink to a path is refused.
    runs
        Whether the query is going to run, so that what can be read once may be read.

    Raises
    ------
    PythonPlanError
        When the plan holds a Python object that can't be serialised, or a chosen credential provider.
    PlanError
        When the plan is too large, or ends in a sink that only this process could write; `SeveralSinksError` when it ends in
        several, `TableSinkError` when it ends in a table.
    """
    keep_versions()
    try:
        with interrupts_held(), rows_held() as held:
            plan = lf.serialize()
    except pl.exceptions.PolarsError as error:
        raise PythonPlanError(
            f"the query can't be sent to functions: {_last_line(error)}. Use polars expressions instead of Python functions "
            "and sources that hold objects of this process"
        ) from error
    _check_size(plan, max_plan_bytes)
    arena = Arena.decode(plan)
    changed = [resolve_held(arena, held, max_bytes=max_plan_bytes, reads=runs)]
    if arena.kind(arena.root) == "SinkMultiple":
        raise SeveralSinksError(tuple(map(arena.lazy, arena.inputs(arena.root))))
    if is_iceberg_sink(arena):
        raise TableSinkError(iceberg_sink(lf, arena))
    changed += [resolve_pipes(arena), resolve_datasets(arena), *(_localise(payload) for payload in _scans(arena))]
    if arena.kind(arena.root) == "Sink":
        changed.append(_localise_sink(arena.payload(arena.root), shares_files=shares_files))
    if not any(changed):
        return plan
    plan = arena.encode()
    _check_size(plan, max_plan_bytes)
    return plan


def _check_size(plan: bytes, limit: int) -> None:
    if len(plan) > limit:
        raise PlanError(
            f"the plan has {len(plan):,} bytes, more than the {limit:,} of Settings.max_plan_bytes. In-memory DataFrames "
            "are part of a plan: write large ones to Parquet and scan the files"
        )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else type(error).__name__


def _scans(arena: Arena) -> Iterator[Raw]:
    return (arena.payload(number) for number in arena.reachable() if arena.kind(number) == "Scan")


def _localise(scan: Raw) -> bool:
    """Adapt a scan in place, and return whether anything changed."""
    arguments = cast("Raw", scan.get("unified_scan_args") or {})
    changed = arguments.get("include_file_paths") is None and _make_paths_absolute(scan)
    return _without_provider(arguments) or changed


def _without_provider(arguments: Raw) -> bool:
    options = arguments.get("cloud_options")
    if not isinstance(options, dict) or options.get("credential_provider") is None:
        return False
    _refuse_chosen_provider(options["credential_provider"])
    options["credential_provider"] = None
    return True


def _localise_sink(sink: Raw, *, shares_files: bool) -> bool:
    """Adapt a sink in place, and return whether anything changed."""
    ((kind, body),) = cast("Raw", sink["payload"]).items()
    target = body.get(_SINK_TARGETS.get(kind, "")) if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(target, dict) or not isinstance(target.get("inner"), str):
        raise PythonPlanError(f"a sink to a Python object can't be sent to functions: {_SINK_ADVICE}")
    arguments = cast("Raw", body["unified_sink_args"])
    changed = _without_provider(arguments)
    if found := sorted(set(python_kinds([body]))):
        raise PythonPlanError(f"the sink holds Python objects ({', '.join(found)}), which are refused: {_SINK_ADVICE}")
    path = cast("str", target["inner"])
    if "://" in path or path.startswith("file:"):
        return changed
    check_local_target(path, shares_files=shares_files)
    target["inner"] = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118  # a Path would take a slash at the end away
    return True


def check_local_target(path: str, *, shares_files: bool) -> None:
    """Refuse a path to write to that would mean another machine's disk.

    Raises
    ------
    PlanError
        Unless `shares_files`.
    """
    if not shares_files:
        raise PlanError(
            f"{path} is a path of this machine, and functions write elsewhere: sink to s3://, gs:// or az://, or name a "
            f"folder of the coordinator's machine as file://{path if path.startswith('/') else '/' + path}"
        )


def _make_paths_absolute(scan: Raw) -> bool:
    sources = scan.get("sources")
    paths = sources.get("Paths") if isinstance(sources, dict) else None
    if not isinstance(paths, list):
        return False
    folder = os.getcwd()  # noqa: PTH109  # plain text: a Path would normalise the user's path away
    changed = False
    for path in paths:
        inner = path.get("inner") if isinstance(path, dict) else None
        # A folder with glob characters in its name would be taken for a pattern.
        if isinstance(inner, str) and _is_relative(inner) and not _GLOB_CHARACTERS & set(folder):
            path["inner"] = os.path.join(folder, inner.removeprefix("./"))  # noqa: PTH118  # as above
            changed = True
    return changed


def _is_relative(path: str) -> bool:
    return "://" not in path and not path.startswith("file:") and not os.path.isabs(path)  # noqa: PTH117  # as above


class _AutomaticOnly(pickle.Unpickler):
    """Reads a credential provider that polars made by itself, and nothing else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _AUTOMATIC:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _refuse_chosen_provider(provider: object) -> None:
    """Raise unless `provider` is the one that polars adds when nobody asked for one."""
    data = provider.get("Builder") if isinstance(provider, dict) else None
    if isinstance(data, list):
        data = bytes(data)
    if not isinstance(data, bytes):
        raise PythonPlanError(f"the scan has a credential provider, a Python object, which is refused: {_ADVICE}")
    try:
        builder = _AutomaticOnly(io.BytesIO(data[_POLARS_PICKLE_HEADER_BYTES:])).load()
        arguments = builder.credential_provider_init.kw
    except (pickle.UnpicklingError, AttributeError, EOFError) as error:
        raise PythonPlanError(
            f"the scan has a credential provider of its own ({error}), a Python object, which is refused: {_ADVICE}"
        ) from error
    if (profile := arguments.get("profile_name")) is not None:
        raise PythonPlanError(f"the scan uses the AWS profile {profile!r} of this machine, which functions lack: {_ADVICE}")
