"""Object storage: the only way in which tasks reach one another.

``open_store`` is the way in; the stores are :class:`FolderStore` and :class:`ObjectStore`. This module knows bytes under
keys and nothing of blocks: :mod:`frazil_functions.exchange` comes next.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from frazil_functions.errors import StorageError
from frazil_functions.storage_folder import FolderStore
from frazil_functions.storage_model import CountingStore, ObjectInfo, PassingStore, Store
from frazil_functions.storage_object import ObjectStore

__all__ = ["CountingStore", "FolderStore", "ObjectInfo", "ObjectStore", "PassingStore", "Store", "open_store"]

_SCHEMES: Final = frozenset({"s3", "s3a", "gs", "az", "azure", "abfs", "abfss"})


def open_store(url: str, options: Mapping[str, str] | None = None) -> Store:
    """Open the store at `url`: no request is sent, but a missing folder is made.

    Parameters
    ----------
    url
        A path, ``file:///path``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``.
    options
        Credentials and such, named as in polars' ``storage_options``: ``aws_access_key_id``, ``aws_secret_access_key``,
        ``aws_region``, ``aws_endpoint_url``, ``aws_allow_http`` …; folders need none.

    Raises
    ------
    StorageError
        When `url` is of no known kind, or an option is unknown, or the folder can't be made.
    """
    if "://" not in url:
        return FolderStore(Path(url).expanduser())
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise StorageError(f"{url} names another host: a file:// store has the form file:///folder")
        return FolderStore(Path(unquote(parts.path)))
    if parts.scheme not in _SCHEMES:
        raise StorageError(f"stores of kind {parts.scheme!r} are not known: use a folder, s3://, gs:// or az://")
    if "@" in parts.netloc and not parts.scheme.startswith("abfs"):
        raise StorageError("the store's URL holds credentials: pass them as storage options")
    return ObjectStore(url, options or {})
