"""What a query costs in dollars, by the price table of the settings.

The one place where prices meet figures: the estimate of EXPLAIN, the profile and the benchmarks all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from frazil_coordinator.settings import Settings

__all__ = ["Prices"]

_GB: Final = 10**9
_GETS: Final = ("get", "head")
_PUTS: Final = ("put", "list")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars, see the settings of the same names."""

    vcpu_second: float
    gib_second: float
    thousand_gets: float
    thousand_puts: float
    egress_gb: float
    function_vcpus: float
    function_gib: float

    @classmethod
    def of(cls, settings: Settings) -> Prices:
        """Return the price table of `settings`."""
        return cls(
            vcpu_second=settings.price_vcpu_second,
            gib_second=settings.price_gib_second,
            thousand_gets=settings.price_1000_gets,
            thousand_puts=settings.price_1000_puts,
            egress_gb=settings.price_egress_gb,
            function_vcpus=settings.function_vcpus,
            function_gib=settings.function_gib,
        )

    @property
    def function_second(self) -> float:
        """What a function costs for a second in which it runs a task."""
        return self.function_vcpus * self.vcpu_second + self.function_gib * self.gib_second

    def dollars(self, *, function_seconds: float, requests: Mapping[str, int], bytes_read: int) -> float:
        """Return the price of some work.

        Parameters
        ----------
        function_seconds
            Seconds in which functions ran tasks.
        requests
            Requests to the object store by operation: ``get``, ``head``, ``put``, ``list``; others are free.
        bytes_read
            Bytes that functions read from the object store.
        """
        gets = sum(requests.get(name, 0) for name in _GETS)
        puts = sum(requests.get(name, 0) for name in _PUTS)
        return (
            function_seconds * self.function_second
            + gets / 1000 * self.thousand_gets
            + puts / 1000 * self.thousand_puts
            + bytes_read / _GB * self.egress_gb
        )
