"""Which format of a result a client wants: by ``Accept`` (RFC 9110, 12.5.1), or by name for who can't set headers."""

from __future__ import annotations

from frazil_coordinator.formats import MEDIA_TYPES, NotAcceptableError, ResultFormat

__all__ = ["choose_format"]


def choose_format(accept: str, named: ResultFormat | None) -> ResultFormat:
    """Return the format to send.

    Parameters
    ----------
    accept
        The header; empty when there is none, which takes anything.
    named
        What was asked for by name, which counts more.

    Raises
    ------
    NotAcceptableError
        When nothing that can be sent is wanted.
    """
    if named is not None:
        return named
    if not accept.strip():
        return ResultFormat.ARROW
    wishes = [wish for part in accept.split(",") if (wish := _wish(part)) is not None]
    # What the client likes most; among equals, what we like most.
    qualities = {form: _quality(media_type, wishes) for form, media_type in MEDIA_TYPES.items()}
    best = max(MEDIA_TYPES, key=lambda form: qualities[form])
    if qualities[best] <= 0:
        raise NotAcceptableError(f"a result is sent as {', '.join(MEDIA_TYPES.values())}, and none of them is accepted")
    return best


def _wish(part: str) -> tuple[str, float] | None:
    """Return the media range and its quality; None for what is none."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    if media_range.count("/") != 1:
        return None
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                return None
    return media_range, quality


def _quality(media_type: str, wishes: list[tuple[str, float]]) -> float:
    """Return how much a media type is wanted: the most specific range that it lies in says so."""
    for media_range in (media_type, f"{media_type.partition('/')[0]}/*", "*/*"):
        found = [quality for wished, quality in wishes if wished == media_range]
        if found:
            return max(found)
    return 0.0
