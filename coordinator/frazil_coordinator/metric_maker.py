"""Making metrics on a registry, remembering what they are, and writing them as Prometheus reads them.

It knows no metric; :mod:`frazil_coordinator.metrics` has them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

__all__ = ["Described", "MetricMaker"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What one metric is."""

    name: str
    """As Prometheus stores it, of a histogram without ``_bucket``, ``_sum`` and ``_count``."""

    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str
    """What it means."""


class MetricMaker:
    """A registry of its own, and what is on it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._described: list[Described] = []
        self._exposed = CollectorRegistry()
        self._exposed.register(_WithoutBeginnings(self.registry))
        ProcessCollector(registry=self.registry)

    @property
    def described(self) -> tuple[Described, ...]:
        """All metrics but those of the process, in the order in which they were made."""
        return tuple(self._described)

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        """Return a new counter."""
        self._described.append(Described(name=name, kind="counter", labels=tuple(labels), text=text))
        return Counter(name, text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        """Return a new gauge."""
        self._described.append(Described(name=name, kind="gauge", labels=tuple(labels), text=text))
        return Gauge(name, text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
        """Return a new histogram, whose `buckets` are upper bounds in seconds."""
        self._described.append(Described(name=name, kind="histogram", labels=tuple(labels), text=text))
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics now, and their media type: by ``Accept`` the text format of Prometheus, or OpenMetrics."""
        encode, media_type = choose_encoder(accept)
        return encode(self._exposed), media_type


class _WithoutBeginnings(Collector):
    """What a registry has, without the times at which series began, which would double their number."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family
