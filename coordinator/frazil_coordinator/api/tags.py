"""Entity tags of what has versions: tables and triggers."""

from __future__ import annotations

from frazil_functions.errors import RequestError

__all__ = ["version_of"]


def version_of(text: str) -> int | None:
    """Return the version of an entity tag; None when there is none, or any will do.

    Raises
    ------
    RequestError
        When it is no tag of ours.
    """
    tag = text.strip().removeprefix("W/").strip('"')
    if tag in ("", "*"):
        return None
    if not tag.isdecimal() or len(tag) > 8:
        raise RequestError(f'If-Match must be the ETag of what is changed, as "3", not {text!r}')
    return int(tag)
