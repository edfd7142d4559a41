"""Pre-scaling, the pure part: what stands on a Revision, and what is to be written there.

The autoscaler starts pods as requests come, in steps; a coordinator knows beforehand how many a stage wants. So it sets
``min-scale`` of the Revision, for as long as it needs them, under a lease in an annotation:
``{"base": "0", "set": 20, "leases": {"<coordinator>": [20, 1790000000.0]}}`` - what min-scale was before, what was set, and
who wants how many pods until when. Whoever comes by resets what has run out, so that a coordinator that was killed leaves
nothing pre-scaled. Time comes in as a value. :mod:`.scaler` reads and writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from frazil_coordinator.platform.knative.models import MIN_SCALE

__all__ = ["LEASE_ANNOTATION", "Lease", "Prescale", "changed_annotations", "read_prescale"]

LEASE_ANNOTATION: Final = "frazil.dev/prescale"

_SKEW_S: Final = 15.0
"""How far the clocks of two coordinators may be apart: another one's lease is over that much later."""

_RENEW_SHARE: Final = 0.5
"""Share of a lease below which it is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Pods that a coordinator wants."""

    width: int
    until_unix_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prescale:
    """What stands on a Revision."""

    base: str | None = None
    """``min-scale`` without pre-scaling; None: not set."""

    written: int | None = None
    """What was set; None: nothing."""

    leases: Mapping[str, Lease] = field(default_factory=dict)


class _Wire(msgspec.Struct, omit_defaults=False):
    base: str | None
    written: int | None = msgspec.field(name="set")
    leases: dict[str, tuple[int, float]]


def read_prescale(annotations: Mapping[str, str]) -> Prescale:
    """Return what a Revision's annotations say; one that can't be read is as none, with ``min-scale`` to be taken away."""
    current, text = annotations.get(MIN_SCALE), annotations.get(LEASE_ANNOTATION)
    if text is None:
        return Prescale(base=current)
    try:
        wire = msgspec.json.decode(text, type=_Wire)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Prescale(base=None, written=int(current) if current and current.isdecimal() else None)
    # Somebody set another value by hand meanwhile: that is what it is to be afterwards.
    base = wire.base if wire.written is not None and current == str(wire.written) else current
    leases = {holder: Lease(width=width, until_unix_s=until) for holder, (width, until) in wire.leases.items()}
    return Prescale(base=base, written=wire.written, leases=leases)


def changed_annotations(
    annotations: Mapping[str, str], *, holder: str, width: int, now_unix_s: float, lease_s: float, most: int | None
) -> dict[str, str | None] | None:
    """Return the annotations to write (None: to take away); None when all is as it should be.

    Parameters
    ----------
    annotations
        Of the Revision.
    holder, width
        Who asks, and for how many pods; 0 for none.
    now_unix_s, lease_s
        The time, and how long the wish holds.
    most
        What min-scale may be at most; None: anything.
    """
    found = read_prescale(annotations)
    bounded = max(0, width if most is None else min(width, most))
    leases = {
        who: lease for who, lease in found.leases.items() if who != holder and now_unix_s < lease.until_unix_s + _SKEW_S
    }
    mine = found.leases.get(holder)
    if bounded:
        fresh = mine is not None and mine.until_unix_s - now_unix_s > lease_s * _RENEW_SHARE
        keep = fresh and mine is not None and mine.width == bounded
        leases[holder] = mine if keep and mine is not None else Lease(width=bounded, until_unix_s=now_unix_s + lease_s)
    widest = max((lease.width for lease in leases.values()), default=0)
    base = int(found.base) if found.base and found.base.isdecimal() else 0
    if not leases:
        wanted: dict[str, str | None] = {LEASE_ANNOTATION: None, MIN_SCALE: found.base}
    else:
        value = max(base, widest)
        wire = _Wire(found.base, value, {who: (lease.width, lease.until_unix_s) for who, lease in sorted(leases.items())})
        wanted = {LEASE_ANNOTATION: msgspec.json.encode(wire).decode(), MIN_SCALE: str(value)}
    changes = {name: value for name, value in wanted.items() if annotations.get(name) != value}
    return changes or None
