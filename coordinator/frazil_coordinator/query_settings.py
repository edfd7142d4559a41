"""Which settings a query may have of its own: a client may lower what its operator allows, and never lift it.

:mod:`frazil_coordinator.api` reads what a client sends and asks here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from frazil_coordinator.settings import Settings
from frazil_functions.errors import RequestError

__all__ = ["AS_SETTINGS", "LOWER_ONLY", "OPERATORS", "ReuseChoice", "Reusing", "for_query"]

LOWER_ONLY: Final = frozenset(
    {"max_bytes_scanned", "max_cost", "max_tasks", "timeout_s", "function_memory_bytes", "max_plan_bytes", "max_attempts",
     "max_platform_failures", "start_timeout_s", "inline_limit_bytes", "inline_stage_limit_bytes", "replay_bytes",
     "keep_inputs_bytes"}
)  # fmt: skip
"""Limits: a query may have a lower one than its coordinator; None is no limit. The inline limits bound the coordinator's own
memory, attempts and times what a query may take from others."""

OPERATORS: Final = frozenset(
    {"ageing_s", "heartbeat_s", "lease_s", "max_in_flight", "max_queries", "prescale", "prescale_lease_s", "result_ttl_s",
     "retry_backoff_max_s", "retry_backoff_s", "orphan_ttl_s", "reuse_ttl_s", "function_vcpus", "function_gib",
     "price_vcpu_second", "price_gib_second", "price_1000_gets", "price_1000_puts", "price_egress_gb"}
)  # fmt: skip
"""Settings of the whole coordinator, or facts of where it runs: another price would get around `max_cost`, no delay between
attempts would be a hot loop, and no heartbeat would let a dead task keep its place."""


ReuseChoice: TypeAlias = Literal["off", "tasks", "result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reusing:
    """What one query says of reuse; None: what its other settings say."""

    reuse: ReuseChoice | None = None
    """See `frazil_coordinator.settings.Settings.reuse`."""

    max_age_s: float | None = None
    """See `frazil_coordinator.settings.Settings.max_age_s`."""

    def within(self, settings: Settings) -> Settings:
        """Return `settings` with what this says.

        Raises
        ------
        RequestError
            When a value is out of its range.
        """
        changes = {"reuse": self.reuse, "max_age_s": self.max_age_s}
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(settings, **given) if given else settings  # type: ignore[arg-type]  # Settings checks the types itself


AS_SETTINGS: Final = Reusing()
"""Nothing of its own."""


def for_query(base: Settings, values: Mapping[str, object]) -> Settings:
    """Return the settings of a query.

    Parameters
    ----------
    base
        The coordinator's.
    values
        What the query has of its own, by name.

    Raises
    ------
    RequestError
        When a value is out of its range, lifts a limit of the coordinator, or is of a setting that is not a query's.
    """
    for name in sorted(values.keys() & OPERATORS):
        if values[name] != getattr(base, name):
            raise RequestError(f"settings: {name} is the coordinator's ({getattr(base, name)}); a query can't change it")
    wanted = replace(base, **values)  # type: ignore[arg-type]  # Settings checks the types itself
    if base.keep_inputs == "off" and wanted.keep_inputs != "off":
        raise RequestError("settings: keep_inputs is off at this coordinator, which a query can't change: ask its operator")
    for name in sorted(values.keys() & LOWER_ONLY):
        limit, given = getattr(base, name), getattr(wanted, name)
        if limit is not None and (given is None or given > limit):
            raise RequestError(
                f"settings: {name}={given} is above the {limit} that this coordinator allows: ask for less, or its operator"
            )
    return wanted
