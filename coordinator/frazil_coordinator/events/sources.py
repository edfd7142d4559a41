"""The objects of a trigger's source, as their store tells of them: listed, or asked for one by one.

What a notification says is a hint only; what an object *is* (its etag, size and time) is what the store says, whoever
asks. So forged, duplicated, late and unordered notifications change nothing but when it is looked. All methods block. Next:
:mod:`frazil_coordinator.events.runner`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import obstore

from frazil_coordinator.events.model import ObjectRef
from frazil_functions.errors import SourceError
from frazil_functions.scan_files import is_remote, of_each, reason_of, scan_store

if TYPE_CHECKING:
    from obstore import ObjectMeta

__all__ = ["HEADS_AT_MOST", "ObjectSource"]

HEADS_AT_MOST: Final = 64
"""Objects that are asked for one by one; of more, the source is listed."""

_AT_ONCE: Final = 16
_OWN: Final = "/.frazil-"
"""In the paths of what Frazil itself writes beside outputs."""


class ObjectSource:
    """The objects whose URLs begin and end in some way.

    Parameters
    ----------
    source
        What they begin with: a folder, or more.
    suffix
        What they end with.
    cloud_options
        Of the plan's scan.
    """

    def __init__(self, source: str, suffix: str, cloud_options: object) -> None:
        self.source = source
        self.suffix = suffix
        self.remote = is_remote(source)
        self._cloud_options = cloud_options

    def takes(self, url: str) -> bool:
        """Return whether an object of this URL is one of them."""
        return url.startswith(self.source) and url.endswith(self.suffix) and _OWN not in url[len(self.source) - 1 :]

    def list(self) -> dict[str, ObjectRef]:
        """Return all of them by URL: 1 LIST per 1,000 objects below the folder.

        Raises
        ------
        SourceError
            When the store refuses.
        """
        folder = self.source[: self.source.rindex("/") + 1]
        store, root, key = scan_store(folder, self._cloud_options)
        found: dict[str, ObjectRef] = {}
        try:
            for batch in obstore.list(store, key or None):
                for meta in batch:
                    url = root + meta["path"]
                    if meta["size"] > 0 and self.takes(url):
                        found[url] = _ref(url, meta)
        except FileNotFoundError:
            return {}  # a folder that is not there yet has no objects
        except Exception as error:  # obstore's errors have no public common base besides Exception
            raise SourceError(f"can't list {folder}: {reason_of(error)}", where={"file": folder}) from error
        return found

    def look(self, urls: Iterable[str]) -> Mapping[str, ObjectRef | None]:
        """Return what is at each of these URLs, None for nothing: 1 HEAD each, or a listing of all.

        Raises
        ------
        SourceError
            When the store refuses.
        """
        wanted = list(dict.fromkeys(urls))
        if len(wanted) > HEADS_AT_MOST:
            found = self.list()
            return {url: found.get(url) for url in wanted}
        return dict(zip(wanted, of_each(self._head, wanted, path=str, threads=_AT_ONCE), strict=True))

    def _head(self, url: str) -> ObjectRef | None:
        store, _, key = scan_store(url, self._cloud_options)
        try:
            meta = obstore.head(store, key)
        except FileNotFoundError:
            return None
        except Exception as error:  # as above
            raise SourceError(f"can't look at {url}: {reason_of(error)}", where={"file": url}) from error
        return _ref(url, meta) if meta["size"] > 0 else None


def _ref(url: str, meta: ObjectMeta) -> ObjectRef:
    modified = meta["last_modified"].timestamp()
    # Without an etag (some stores of one's own), size and time must do.
    etag = (meta["e_tag"] or f"{meta['size']}-{modified}").removeprefix("W/").strip('"')
    return ObjectRef(url=url, etag=etag, size=meta["size"], modified_unix_s=modified)
