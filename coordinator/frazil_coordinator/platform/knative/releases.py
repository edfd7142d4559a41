"""Releases, the pure part: what a release is called, who uses it, and when its services may go.

A release is one image with one version of polars. Its function services carry its name, so that those of two releases stand
side by side: queries that began with the old one end on it, while new ones run on the new one. Who uses a release says so in
an annotation of its services, ``{"<coordinator>": until}``; one that nobody uses goes. Time comes in as a value.
:mod:`.keeper` reads and writes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from frazil_coordinator.platform.knative.models import RELEASE_LABEL, Service

__all__ = ["USE_ANNOTATION", "changed_use", "is_used", "release_id", "service_name", "uses"]

USE_ANNOTATION: Final = "frazil.dev/in-use"

_SKEW_S: Final = 15.0
"""How far the clocks of two coordinators may be apart."""

_NEW_S: Final = 900.0
"""Seconds for which a service is kept that nobody uses yet: its coordinator may still be starting."""

_RENEW_SHARE: Final = 0.5
_DIGEST_CHARACTERS: Final = 8
_LONGEST_NAME: Final = 63


def release_id(polars: str, image: str) -> str:
    """Return the name of a release: the polars version, and a digest of the image's reference.

    Parameters
    ----------
    polars
        E.g. ``2.1.0``.
    image
        As the services name it; with ``@sha256:…`` it is one image for ever.
    """
    version = re.sub(r"[^a-z0-9]+", "-", polars.lower()).strip("-")
    return f"{version}-{hashlib.sha256(image.encode()).hexdigest()[:_DIGEST_CHARACTERS]}"


def service_name(base: str, release: str) -> str:
    """Return the name of a service of a release, e.g. ``frazil-function-small-2-1-0-1a2b3c4d``."""
    return f"{base}-{release}"[:_LONGEST_NAME].rstrip("-")


def uses(annotations: Mapping[str, str]) -> Mapping[str, float]:
    """Return until when each coordinator uses a service; an annotation that can't be read says nothing."""
    try:
        return msgspec.json.decode(annotations.get(USE_ANNOTATION, "{}"), type=dict[str, float])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return {}


def changed_use(
    annotations: Mapping[str, str], *, holder: str, used: bool, now_unix_s: float, lease_s: float
) -> dict[str, str | None] | None:
    """Return the annotation to write (None: to take away); None when all is as it should be."""
    found = uses(annotations)
    kept = {who: until for who, until in found.items() if who != holder and now_unix_s < until + _SKEW_S}
    if used:
        mine = found.get(holder, 0.0)
        fresh = mine - now_unix_s > lease_s * _RENEW_SHARE
        kept[holder] = mine if fresh else now_unix_s + lease_s
    if kept == dict(found) and (kept or USE_ANNOTATION not in annotations):
        return None
    return {USE_ANNOTATION: msgspec.json.encode(kept, order="deterministic").decode() if kept else None}


def is_used(service: Service, now_unix_s: float) -> bool:
    """Return whether anybody uses a service, or may be about to; one that is of no release always is used."""
    if not service.meta.labels.get(RELEASE_LABEL):
        return True
    created = service.meta.creation_timestamp
    if created is not None and now_unix_s < created.timestamp() + _NEW_S:
        return True
    return any(now_unix_s < until + _SKEW_S for until in uses(service.meta.annotations).values())
