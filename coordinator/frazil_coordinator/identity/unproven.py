"""What a JSON Web Token says of itself (RFC 7519), before anybody looked at its signature: good for finding who can."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

__all__ = ["Unproven", "read_unproven"]

_MAX_CHARS: Final = 16_384
"""Longer tokens are not looked into; those of directories with hundreds of groups have a third of it."""

_FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """Two objects of a token. Anybody may have written them."""

    header: Mapping[str, object]
    claims: Mapping[str, object]


def read_unproven(token: str) -> Unproven | None:
    """Return what `token` says; None when it has not the form of a signed JWT."""
    form = _FORM.fullmatch(token) if len(token) <= _MAX_CHARS else None
    if form is None:
        return None
    header, claims = _object(form[1]), _object(form[2])
    if header is None or claims is None:
        return None
    return Unproven(header=header, claims=claims)


def _object(segment: str) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)), type=dict[str, object])
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
