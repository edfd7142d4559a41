"""One frozen Settings a process, read once at start; each knob with its default, unit and effect."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from frazil_functions.errors import RequestError
from frazil_functions.task import CodecChoice

__all__ = ["MIB", "Settings"]

MIB = 1024 * 1024

_CHOICES = {
    "fallback": ("allow", "warn", "raise"),
    "codec": get_args(CodecChoice),
    "reuse": ("off", "tasks", "result"),
    "keep_inputs": ("off", "failed", "all"),
}
_MAY_BE_ZERO = frozenset(
    {"broadcast_limit_bytes", "coalesce_bytes", "inline_limit_bytes", "inline_stage_limit_bytes", "start_small_bytes",
     "retry_backoff_s", "retry_backoff_max_s", "result_ttl_s", "max_cost", "max_bytes_scanned", "price_vcpu_second",
     "runtime_filter_values", "runtime_wait_s", "two_level_block_bytes", "max_age_s", "replay_bytes", "keep_inputs_bytes",
     "price_gib_second", "price_1000_gets", "price_1000_puts", "price_egress_gb"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Knobs of planning and running queries.

    Raises
    ------
    RequestError
        When a value is out of its range.
    """

    split_target_bytes: int = 128 * MIB
    """Compressed bytes of the projected columns that one scan task should read."""

    max_rows_per_split: int | None = None
    """Rows above which a split is cut, whatever its bytes. 4 turns any table into many tiny tasks; not those of text files,
    whose rows nobody has counted: for them, lower `split_target_bytes`."""

    min_tasks_per_scan: int = 1
    """Tasks into which a scan is cut at least, as far as it has row groups or lines for them: a table of 60 MiB is read by
    as many functions at once as one of 600. Not where a query starts small."""

    split_text_files: bool = True
    """Whether a large CSV or NDJSON file is cut at ends of lines. A query that meets quotes which hide where lines end is
    planned again without."""

    max_tasks_per_stage: int = 10_000
    """Most tasks of a scan stage, about; splits grow instead, also beyond `max_rows_per_split`."""

    shuffle_partitions: int | None = None
    """Partitions of hash and range exchanges. None: from the bytes to be moved, and at least 2 when a table has several
    splits."""

    shuffle_target_bytes: int = 128 * MIB
    """Bytes that one partition should hold when `shuffle_partitions` is None."""

    broadcast_limit_bytes: int = 64 * MIB
    """Upper bound on the estimated bytes of a join's side that is sent whole to every task, as long as all tasks together
    read at most 8 MiB of it or half of what a shuffle would move. 0: never broadcast."""

    runtime_filters: bool = True
    """Whether a scan is filtered by the keys that the other side of a join turned out to have."""

    runtime_filter_values: int = 1_024
    """Different keys up to which a runtime filter names each; of more it names the least and the greatest. 0: always these
    two."""

    runtime_wait_s: float = 10.0
    """Seconds for which a stage that could start waits at most for what another stage will tell it: keys to filter by,
    or that it is small. It never waits longer than half of the time that it is expected to take itself. 0: never."""

    preaggregate_share: float = 0.8
    """Share of its rows that the first step of a group_by may leave before later tasks of the query do without it. Above 1:
    it is always done."""

    coalesce_bytes: int | None = None
    """Encoded bytes up to which neighbouring partitions of a shuffle are read by one task. None: 64 MiB, or never while
    `max_rows_per_split` is set. 0: never."""

    skew_bytes: int = 256 * MIB
    """A partition of a join or of whole groups that is larger than this, or than what a function has memory for, and than
    `skew_factor` times the median, is divided among several tasks."""

    skew_factor: float = 5.0
    two_level_requests: int | None = 27_500
    """GETs that the tasks of one stage may make for what other stages wrote; above, a stage of combiners goes first, which
    copies it into fewer objects. 27,500 is what a prefix of S3 answers in 5 s. None: never."""

    two_level_block_bytes: int = 64 * 1024
    """Average bytes of a GET below which combiners go first from 4,096 GETs on. 0: only `two_level_requests` counts."""

    start_small: bool = True
    """A query whose tables fit one function (`start_small_bytes`) is one task without an exchange."""

    start_small_bytes: int | None = None
    """Compressed bytes of the projected columns up to which `start_small` applies. None: 1 GiB; where functions are
    processes of one machine, a twelfth of its memory if that is more. A query whose one task runs out of memory is planned
    again, in many tasks."""

    fallback: Literal["allow", "warn", "raise"] = "allow"
    """What to do with a part of a plan that has no distributed form: run it in one task silently, warn, or raise."""

    allow_udfs: bool = False
    """Whether plans may hold Python functions and Python sources. They run with the rights of the coordinator and of its
    functions, so a coordinator that allows them trusts everybody who may send it a query. A query's own value can only
    lower the coordinator's."""

    inline_limit_bytes: int = 256 * 1024
    """Task output of at most so many encoded bytes travels in the answer instead of the store. 0: never."""

    inline_stage_limit_bytes: int = 32 * MIB
    """Bytes that all tasks of a stage together may send inline; `inline_limit_bytes` is lowered to its share."""

    codec: CodecChoice = "auto"
    """Encoding of exchange blocks (docs/exchange.md)."""

    reuse: Literal["off", "tasks", "result"] = "off"
    """Whether a task takes the answer that an equal one gave before, or gives now, and leaves its own for others
    (docs/reuse.md); ``result``: the query may take the whole result of an equal one, too."""

    max_age_s: float | None = None
    """Age up to which ``reuse="result"`` takes a result. None: as long as results are kept for reuse."""

    reuse_ttl_s: float = 86_400.0
    """Seconds for which answers are kept for reuse."""

    keep_inputs: Literal["off", "failed", "all"] = "failed"
    """What is kept to run tasks again after the end of a query, as long as its result (docs/replay.md): nothing, the task
    that the query failed with, or all tasks with everything that they left in the exchange. Where the coordinator keeps
    nothing, a query can't ask for more."""

    replay_bytes: int = 32 * MIB
    """Bytes of exchange blocks that travel with one task that is fetched or kept to be run again; of a task that reads more,
    only what it was sent is."""

    keep_inputs_bytes: int = 1024 * MIB
    """Bytes in the exchange up to which ``keep_inputs="all"`` keeps them."""

    max_attempts: int = 4
    """Attempts of a task that count as failures before the query fails."""

    max_platform_failures: int = 20
    """Attempts of a task lost to the platform (killed function, 503) before the query fails."""

    retry_backoff_s: float = 0.1
    """Delay before the first retry, in seconds; doubled each time, at most `retry_backoff_max_s`."""

    retry_backoff_max_s: float = 5.0
    speculation: bool = True
    """Whether a task that is slow beside the others of its stage gets a second attempt; the first answer counts."""

    speculation_factor: float = 2.0
    """Times that a slow task takes the median of its stage, of which at least half must be done."""

    speculation_least_s: float = 1.5
    """Seconds below which no task is slow."""

    max_in_flight: int | None = None
    """Tasks of all queries in flight at once. None: what the platform allows."""

    timeout_s: float | None = None
    """Seconds after which a query fails with `DeadlineError`. None: never."""

    heartbeat_s: float = 5.0
    """Seconds between heartbeats of a task; a task silent for 4 of them is given up."""

    start_timeout_s: float = 60.0
    """Seconds from sending a task until its function says that it has started, a cold start included; after them the
    attempt is given up."""

    function_memory_bytes: int | None = None
    """Resident memory that one task may use. None: the function's own limit."""

    max_bytes_scanned: int | None = None
    """Compressed bytes that the scans of one query may read. None: any. Above, or when they can't be known, the query is
    refused with `CapError` before a task starts; so with the next two."""

    max_cost: float | None = None
    """Dollars that one query may cost by the estimate of EXPLAIN. None: any."""

    max_tasks: int | None = None
    """Tasks that one query may have, of all stages together. None: any."""

    max_task_s: float | None = None
    """Seconds that a task may be expected to take; a query with a longer one is refused. None: those after which the
    platform ends a task (Knative's timeoutSeconds)."""

    prescale: bool = True
    """Whether pods are asked for before there are requests, by `min-scale` of the functions' Revision. Knative only."""

    prescale_lease_s: float = 60.0
    """Seconds after which pods that a coordinator asked for are no longer kept when it is not heard of."""

    function_vcpus: float = 2.0
    """vCPUs that a function is billed for while it runs a task."""

    function_gib: float = 4.0
    """GiB of memory that a function is billed for while it runs a task."""

    price_vcpu_second: float = 0.000024
    """Dollars for a vCPU for a second; so the next ones. The defaults are list prices (docs/settings.md), 0 is allowed."""

    price_gib_second: float = 0.0000025
    price_1000_gets: float = 0.0004
    """Of the object store: GET and HEAD."""

    price_1000_puts: float = 0.005
    """Of the object store: PUT and LIST."""

    price_egress_gb: float = 0.0
    """For each 10⁹ bytes that functions read from the object store; 0 inside one region."""

    max_plan_bytes: int = 64 * MIB
    """Largest plan that is accepted."""

    max_queries: int = 1_000
    """Queries kept in memory, running and ended."""

    result_ttl_s: float = 3600.0
    """Seconds for which the result of an ended query that nobody read is kept."""

    ageing_s: float = 60.0
    """Seconds without a slot by which the priority of a query that wants one rises by one, so that none waits for ever."""

    lease_s: float = 15.0
    """Seconds after which a coordinator that leads and was not heard of is taken for dead, and another one takes over."""

    orphan_ttl_s: float = 86_400.0
    """Seconds after which exchange objects of a query that no coordinator knows are deleted."""

    def __post_init__(self) -> None:
        for knob in fields(self):
            _check(knob.name, str(knob.type), getattr(self, knob.name))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read settings from variables named ``FRAZIL_<NAME>``, e.g. ``FRAZIL_SPLIT_TARGET_BYTES``.

        Parameters
        ----------
        environ
            The variables; by default the process's.

        Raises
        ------
        RequestError
            When a value can't be read or is out of its range.
        """
        environ = os.environ if environ is None else environ
        values = {
            knob.name: _parse(knob.name, str(knob.type), environ[variable])
            for knob in fields(cls)
            if (variable := f"FRAZIL_{knob.name.upper()}") in environ
        }
        return cls(**values)  # type: ignore[arg-type]  # parsed by the field's own type


def _check(name: str, kind: str, value: object) -> None:
    """Refuse a value of another type than the knob's, and one out of its range."""
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise RequestError(f"settings: {name} must be one of {', '.join(_CHOICES[name])}, not {value!r}")
    elif kind == "bool":
        if not isinstance(value, bool):
            raise RequestError(f"settings: {name} must be True or False, not {value!r}")
    elif value is not None or "None" not in kind:
        number = int if "int" in kind else (int, float)
        if isinstance(value, bool) or not isinstance(value, number):
            raise RequestError(
                f"settings: {name} must be {'a whole number' if number is int else 'a number'}, not {value!r}"
            )
        # Written so that NaN, which is in no order, is refused too.
        if name in _MAY_BE_ZERO and not value >= 0:
            raise RequestError(f"settings: {name} must not be negative, but is {value!r}")
        if name not in _MAY_BE_ZERO and not value > 0:
            raise RequestError(f"settings: {name} must be above 0, not {value!r}")


def _parse(name: str, kind: str, text: str) -> object:
    if "None" in kind and text.lower() in ("", "none"):
        return None
    try:
        if kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
    except (ValueError, KeyError) as error:
        raise RequestError(f"settings: FRAZIL_{name.upper()}={text!r} is not a value of type {kind}") from error
    return text
