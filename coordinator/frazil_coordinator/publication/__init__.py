"""Making the files of a sink visible: all of them or none (docs/sinks.md).

The tasks have written into a staging folder beside the target. One conditional PUT of a manifest that lists the files
commits them; then they are renamed or copied to their names, and the manifest is deleted. Whoever finds a manifest can
finish what its coordinator began.
"""

from __future__ import annotations

from frazil_coordinator.publication.manifest import Manifest, ManifestFile, decode_manifest, encode_manifest
from frazil_coordinator.publication.pending import finish_pending
from frazil_coordinator.publication.publish import Publication, PublicationName

__all__ = [
    "Manifest",
    "ManifestFile",
    "Publication",
    "PublicationName",
    "decode_manifest",
    "encode_manifest",
    "finish_pending",
]
