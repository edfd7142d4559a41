"""Kubernetes' quantities as numbers: ``500m`` CPUs, ``4Gi`` bytes."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["quantity"]

_UNITS: Final = {"m": 1e-3, "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(text: str | int) -> float:
    """Return the number that a quantity stands for."""
    found = re.fullmatch(r"([\d.]+)(\D*)", str(text))
    if found is None or found[2] not in _UNITS:
        raise ValueError(f"{text} is no quantity")
    return float(found[1]) * _UNITS[found[2]]
