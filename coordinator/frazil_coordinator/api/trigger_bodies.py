"""Bodies of requests and answers about triggers, beside those of :mod:`frazil_coordinator.events.model`."""

from __future__ import annotations

import msgspec

__all__ = ["Replay", "Revive"]


class Replay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when on objects are new again."""

    since_unix_s: float = 0.0
    """Time of modification."""


class Revive(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are tried again."""

    urls: tuple[str, ...] | None = None
    """Of the objects. None: all."""
