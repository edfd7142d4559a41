"""Whether a path lies below one of a tenant's folders: a question about texts, which no store is asked.

Stores and readers disagree about what a path means: one takes ``%2e%2e`` for ``..``, another for a name, and a pattern may
match ``..``. So a path is allowed only when it lies below a folder in *every* reading, and refused when it holds what could
lead out of one. Which paths a plan holds: :mod:`frazil_coordinator.plan.places`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import unquote

from frazil_functions.errors import RequestError

__all__ = ["check_prefix", "lies_below"]

_SCHEME: Final = re.compile(r"^([a-z][a-z0-9+.-]*):(//)?", re.IGNORECASE)
_MOST_READINGS: Final = 5
"""Times that a path may be escaped; more is nobody's path."""

_BRACED_DOTS: Final = re.compile(r"[{,]\.+[,}]")
"""A choice of a pattern that is ``.`` or ``..``."""

_PATTERN: Final = frozenset("*?[]{}")


def check_prefix(prefix: str) -> None:
    """Refuse what is no folder.

    Raises
    ------
    RequestError
        When it is neither an absolute path nor a URL, or holds a pattern or ``..``.
    """
    if _canonical(prefix) is None or _PATTERN & set(prefix) or not _stays(prefix):
        raise RequestError(f"{prefix!r} is no folder: a URL such as s3://bucket/folder/ or an absolute path without .. is")


def lies_below(path: str, prefixes: Sequence[str]) -> bool:
    """Return whether `path` surely lies below one of `prefixes`.

    Parameters
    ----------
    path
        Path, URL or pattern of a plan. A relative path lies nowhere.
    prefixes
        Folders: ``s3://bucket/a`` holds ``s3://bucket/a/x``, not ``s3://bucket/ab``. An absolute path and its ``file://``
        URL are the same.
    """
    folders = {_folder(reading) for prefix in prefixes for reading in _readings(prefix)}
    readings = list(_readings(path))
    return unquote(readings[-1]) == readings[-1] and all(
        _stays(reading) and any(_folder(reading).startswith(folder) for folder in folders if folder) for reading in readings
    )


def _readings(path: str) -> Iterator[str]:
    """Yield a path, and what it is when its per cents are escapes, once and again."""
    for _ in range(_MOST_READINGS):
        yield path
        if (plain := unquote(path)) == path:
            return
        path = plain


def _folder(path: str) -> str:
    """Return a path so that those below it begin with it; empty when it has no place of its own."""
    canonical = _canonical(path)
    return "" if canonical is None else canonical.rstrip("/") + "/"


def _canonical(path: str) -> str | None:
    """Return a path as a URL whose scheme is in lower case; None when it is relative."""
    if path.startswith("/"):
        return f"file://{path}"
    if (match := _SCHEME.match(path)) is None:
        return None
    scheme, rest = match[1].lower(), path[match.end() :]
    if scheme == "file":  # file:/a is file:///a, and file://host/a is nothing that polars reads
        return f"file://{rest}" if rest.startswith("/") else None
    return f"{scheme}://{rest}" if match[2] and rest.strip("/") else None


def _stays(path: str) -> bool:
    """Return whether no part of a path may lead out of its folder."""
    if "\\" in path or "\0" in path or _BRACED_DOTS.search(path):
        return False
    segments = path.split("/")
    # A pattern that begins with a dot may match "..", as `.*` and `.?` do.
    return not any(segment in (".", "..") or (segment.startswith(".") and _PATTERN & set(segment)) for segment in segments)
