"""The manifest of a sink: its commit point, and all that is needed to finish it (docs/sinks.md has the format)."""

from __future__ import annotations

from typing import Final

import msgspec

from frazil_functions.errors import SourceError

__all__ = ["MANIFEST", "STAGING", "Manifest", "ManifestFile", "decode_manifest", "encode_manifest", "join"]

STAGING: Final = ".frazil-staging"
"""Name of the folder that holds a folder of staged files for each sink: ``<query>-<8 hex digits>``."""

MANIFEST: Final = "manifest.json"
"""Name of the manifest in its sink's folder of staged files."""

_FORMAT: Final = "frazil-sink-manifest"
_VERSION: Final = 1


class ManifestFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file."""

    staged: str
    """Where it waits: key relative to the folder of the manifest."""

    published: str
    """Where it belongs: key relative to the folder that holds the folder of staged files."""

    rows: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The files of one query."""

    format: str = _FORMAT
    version: int = _VERSION
    query: str
    target: str
    """What the user named, for people."""

    committed_unix_s: float
    """When it was written, in seconds since 1970."""

    files: tuple[ManifestFile, ...]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return `manifest` as JSON."""
    return _ENCODER.encode(manifest)


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises
    ------
    SourceError
        When `data` is no manifest of a version that this code can finish.
    """
    try:
        manifest = _DECODER.decode(data)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise SourceError(f"not a manifest of a sink: {error}", where={"file": where}) from error
    if manifest.format != _FORMAT or manifest.version != _VERSION:
        raise SourceError(
            f"a manifest of format {manifest.format!r}, version {manifest.version}, is not known here: finish the sink with "
            "the release of Frazil that wrote it",
            where={"file": where},
        )
    return manifest


def join(*parts: str) -> str:
    """Return a key of its parts; empty ones are left out."""
    return "/".join(part for part in parts if part)
