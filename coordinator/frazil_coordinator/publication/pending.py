"""Finishing sinks that are committed and not wholly visible, whoever began them.

Installing a file twice does no harm, so several may finish the same sink at once. Every sink finishes those that it finds
beside its target before it commits its own: otherwise an older one could be finished over its files later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from frazil_coordinator.publication.manifest import MANIFEST, STAGING, Manifest, ManifestFile, decode_manifest, join
from frazil_functions.errors import BlockError
from frazil_functions.storage import ObjectInfo, Store

__all__ = ["ABANDONED_S", "finish", "finish_found", "finish_pending", "install_all"]

ABANDONED_S: Final = 7 * 86_400.0
"""Age of the newest staged file of a query above which its coordinator is taken for dead, when there is no manifest."""

_AT_ONCE: Final = 16

_LOGGER = logging.getLogger(__name__)


def finish_pending(store: Store, base: str) -> tuple[str, ...]:
    """Make visible what is committed and staged under `base`, and delete what was abandoned.

    Parameters
    ----------
    store
        The store.
    base
        Key of the folder that holds the folder of staged files.

    Returns
    -------
    tuple of str
        The queries that were finished.

    Raises
    ------
    SourceError
        When a manifest can't be read.
    StorageError
        When the store refuses.
    """
    return finish_found(store, base, store.list(join(base, STAGING)))


def finish_found(store: Store, base: str, found: Iterable[ObjectInfo], but: str = "") -> tuple[str, ...]:
    """Do as :func:`finish_pending` with what a listing of the staged files found, but for the folder `but`."""
    start = len(join(base, STAGING)) + 1
    newest: dict[str, float] = {}
    committed: list[str] = []
    for info in found:
        folder, _, name = info.key[start:].partition("/")
        newest[folder] = max(newest.get(folder, 0.0), info.modified_unix_s)
        if name == MANIFEST:
            committed.append(folder)
    finished = [_finish_other(store, join(base, STAGING, folder), base) for folder in committed if folder != but]
    for folder, modified_unix_s in newest.items():
        if folder not in (*committed, but) and modified_unix_s < time.time() - ABANDONED_S:
            _LOGGER.info("deleted staged files of a query that never ended", extra={"folder": folder})
            store.delete_prefix(join(base, STAGING, folder))
    return tuple(query for query in finished if query is not None)


def _finish_other(store: Store, staging: str, base: str) -> str | None:
    key = join(staging, MANIFEST)
    try:
        data = store.get(key)
    except BlockError:
        return None  # finished since it was listed
    manifest = decode_manifest(data, f"{store.url}/{key}")
    install_all(store, staging, base, manifest)
    finish(store, staging)
    _LOGGER.info("finished a committed sink", extra={"query": manifest.query, "files": len(manifest.files)})
    return manifest.query


def install_all(store: Store, staging: str, base: str, manifest: Manifest) -> None:
    """Give every file of a manifest, which is in the folder `staging`, its name in the folder `base`.

    Raises
    ------
    StorageError
        When the store refuses; some files may have their names then.
    """

    def install(file: ManifestFile) -> None:
        target = join(base, file.published)
        try:
            store.install(join(staging, file.staged), target, file.bytes)
        except BlockError:
            # Renamed before, by this process or by one that finishes the same sink, which may have deleted the rest by now.
            store.head(target)

    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(manifest.files)))) as pool:
        for _ in pool.map(install, manifest.files):
            pass


def finish(store: Store, staging: str) -> None:
    """Note that all files have their names, by deleting the manifest in `staging`, and then delete what is left."""
    store.delete([join(staging, MANIFEST)])
    store.delete_prefix(staging)
