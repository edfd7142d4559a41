"""Fixtures that every test may ask for."""

from __future__ import annotations

from support.seaweed import seaweed

__all__ = ["seaweed"]
