"""What tenants have used of their day's quotas, and what their running queries are about to use.

A day is one of UTC. Kept in memory: a coordinator counts the queries whose ends it sees, and those that it finds in the
journal when it takes over. Plain calls of one event loop. :mod:`frazil_coordinator.admission` asks before a query enters,
:mod:`frazil_coordinator.execution` before it runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from frazil_coordinator.plan.caps import bytes_to_scan
from frazil_coordinator.plan.model import StageGraph
from frazil_coordinator.tenancy import Tenant
from frazil_functions.errors import CapError, QuotaError
from frazil_functions.ids import QueryId

__all__ = ["Spending"]

_DAY_S: Final = 86_400


@dataclass(slots=True)
class _Day:
    """What a tenant used of one day. Mutable; belongs to :class:`Spending`."""

    number: int
    bytes_scanned: int = 0
    function_seconds: float = 0.0
    reserved: dict[QueryId, int] = field(default_factory=dict)
    """Bytes that queries which run will scan."""

    @property
    def bytes(self) -> int:
        return self.bytes_scanned + sum(self.reserved.values())


class Spending:
    """What of each tenant's day is used.

    Parameters
    ----------
    now_unix_s
        The time.
    """

    def __init__(self, now_unix_s: Callable[[], float] = time.time) -> None:
        self._now_unix_s = now_unix_s
        self._days: dict[str, _Day] = {}

    def check(self, tenant: Tenant) -> None:
        """Refuse another query when a quota of the day is used up.

        Raises
        ------
        QuotaError
            Naming the quota, and when the next day begins.
        """
        day = self._day(tenant.name)
        most_bytes, most_seconds = tenant.max_bytes_scanned_per_day, tenant.max_function_seconds_per_day
        if most_bytes is not None and day.bytes >= most_bytes:
            raise self._refusal(tenant, f"all of its max_bytes_scanned_per_day={most_bytes:,}")
        if most_seconds is not None and day.function_seconds >= most_seconds:
            raise self._refusal(tenant, f"all of its max_function_seconds_per_day={most_seconds:,.0f}")

    def check_plan(self, tenant: Tenant, graph: StageGraph) -> int:
        """Refuse a planned query that would scan more than is left of the day; return what it will scan at most.

        Raises
        ------
        QuotaError
            When it would scan more.
        CapError
            When that is not known beforehand, and the tenant has such a quota.
        """
        most, scanned = tenant.max_bytes_scanned_per_day, bytes_to_scan(graph)
        if most is None:
            return scanned.value
        if scanned.bound == "unknown":
            raise CapError(
                f"the bytes that the query would scan are not known beforehand, and tenant {tenant.name!r} may scan "
                f"{most:,} a day: scan files that are split. Nothing was run."
            )
        used = self._day(tenant.name).bytes
        if used + scanned.value > most:
            raise self._refusal(
                tenant,
                f"{used:,} of its max_bytes_scanned_per_day={most:,}, and the query would scan {scanned.value:,} more",
            )
        return scanned.value

    def reserve(self, tenant: Tenant, query: QueryId, graph: StageGraph, *, always: bool = False) -> None:
        """Count what a planned query will scan, until :meth:`settle`.

        Parameters
        ----------
        tenant, query, graph
            The query. Planned again, it is counted once.
        always
            Whether it may be more than is left: it ran before, on another coordinator.

        Raises
        ------
        QuotaError, CapError
            As :meth:`check_plan`.
        """
        day = self._day(tenant.name)
        day.reserved.pop(query, None)
        day.reserved[query] = bytes_to_scan(graph).value if always else self.check_plan(tenant, graph)

    def settle(self, tenant: str, query: QueryId, profile: Mapping[str, object]) -> None:
        """Count what a query used by its profile, in the place of what was reserved for it."""
        day = self._day(tenant)
        day.reserved.pop(query, None)
        scanned, seconds = profile.get("bytes_scanned", 0), profile.get("function_seconds", 0.0)
        day.bytes_scanned += scanned if isinstance(scanned, int) else 0
        day.function_seconds += seconds if isinstance(seconds, int | float) else 0.0

    def found(self, tenant: str, query: QueryId, profile: Mapping[str, object], ended_unix_s: float | None) -> None:
        """Count a query that ended under another coordinator, when that was today."""
        if ended_unix_s is not None and ended_unix_s // _DAY_S == self._now_unix_s() // _DAY_S:
            self.settle(tenant, query, profile)

    def _day(self, tenant: str) -> _Day:
        """Return today's books; what runs over midnight counts for the new day."""
        number = int(self._now_unix_s() // _DAY_S)
        day = self._days.get(tenant)
        if day is None or day.number != number:
            day = self._days[tenant] = _Day(number, reserved={} if day is None else day.reserved)
        return day

    def _refusal(self, tenant: Tenant, used: str) -> QuotaError:
        left_s = _DAY_S - int(self._now_unix_s()) % _DAY_S
        message = f"tenant {tenant.name!r} has used {used}: the next day begins in {left_s:,} s (UTC). Nothing was run"
        return QuotaError(message, where={"retry_after_s": str(left_s)})
