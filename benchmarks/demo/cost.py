"""What a query would cost in a cloud, by a small table of list prices."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import QueryFigures

__all__ = ["PRICES", "Cost", "Prices", "cost_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """List prices in US dollars, of the order that serverless containers and object stores ask for."""

    vcpu_second: float = 0.000024
    gib_second: float = 0.0000025
    vcpus: float = 1.0
    """Of one function."""

    gib: float = 2.0
    """Memory of one function."""

    write_request: float = 0.000005
    """PUT, LIST, and everything but GET, HEAD and DELETE."""

    read_request: float = 0.0000004
    """GET and HEAD; DELETE is free."""

    @property
    def function_second(self) -> float:
        """What a function costs while it runs a task."""
        return self.vcpus * self.vcpu_second + self.gib * self.gib_second

    def __str__(self) -> str:
        function = f"${self.function_second * 3600:.3f} an hour of a function ({self.vcpus:g} vCPU, {self.gib:g} GiB)"
        per_million = f"${self.write_request * 1e6:.2f} a million PUT, ${self.read_request * 1e6:.2f} a million GET"
        return f"{function}, {per_million}"


PRICES = Prices()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a query used, and the dollars for it."""

    function_seconds: float
    writes: int
    """Exchange-store requests at the price of a PUT."""

    reads: int
    """Exchange-store requests at the price of a GET."""

    dollars: float


def cost_of(figures: QueryFigures, prices: Prices = PRICES) -> Cost:
    """Return what a query cost: functions while they ran tasks, and requests to the exchange store.

    Not counted: the coordinator, which is there all the time, and the functions' reads of the tables.
    """
    requests = figures.requests
    reads = requests.get("get", 0) + requests.get("head", 0)
    writes = requests.get("put", 0) + requests.get("list", 0)
    dollars = figures.function_seconds * prices.function_second + writes * prices.write_request + reads * prices.read_request
    return Cost(function_seconds=figures.function_seconds, writes=writes, reads=reads, dollars=dollars)
