"""The files that polars scans, seen through obstore: which store holds them, their sizes and etags.

Polars reads them itself; this is for planning (listing, footers) and for noticing that a file was replaced since then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

import msgspec
import obstore
from obstore.store import LocalStore, ObjectStore, from_url

from frazil_functions.errors import SourceError

__all__ = [
    "FileStat",
    "as_listed",
    "cloud_config",
    "is_remote",
    "local_path",
    "of_each",
    "reason_of",
    "scan_store",
    "stat_file",
]

_FEW: Final = 64
"""Local files that are looked at one after the other."""

T = TypeVar("T")
R = TypeVar("R")

_FILE: Final = "file:"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
"""Variables that name the endpoint where the scan does not; obstore and polars read them by themselves."""

_SCHEME: Final = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStat:
    """One file of a scan."""

    path: str
    """Path or URL, as polars takes it."""

    size: int
    """Bytes."""

    etag: str | None
    """What changes when the file is replaced; None when the store tells none."""


def is_remote(path: str) -> bool:
    """Return whether `path` is the URL of an object store (and not a local path or ``file://``)."""
    match = _SCHEME.match(path)
    return match is not None and match.group(1).lower() != "file"


def local_path(path: str) -> str:
    """Return a local path as the system takes it: ``/a b`` for ``file:/a b``, ``file:///a b`` and ``file:///a%20b``.

    Notes
    -----
    As polars 2.1 does (``decode_file_uri_paths``); a path without ``file:`` keeps its per cents.
    """
    if not path.startswith(_FILE):
        return path
    return unquote(path.removeprefix(_FILE).removeprefix("//"))


def as_listed(path: str) -> str:
    """Return the path of a folder or pattern as the paths of the files begin that polars finds for it."""
    if not path.startswith(_FILE):
        return path
    return local_path(path) if "%" in path else f"{_FILE}//{local_path(path)}"


def of_each(act: Callable[[T], R], items: Sequence[T], *, path: Callable[[T], str], threads: int) -> list[R]:
    """Return what `act` makes of each item, in their order.

    Parameters
    ----------
    act, items
        What is asked of a store, once for each item.
    path
        The path or URL that an item is about.
    threads
        Most threads, for what is remote and has to be waited for, or many. A local disk answers sooner than a thread starts.
    """
    if len(items) <= (1 if any(is_remote(path(item)) for item in items) else _FEW):
        return [act(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(act, items))


def scan_store(path: str, cloud_options: object) -> tuple[ObjectStore, str, str]:
    """Return the store that holds `path`.

    Parameters
    ----------
    path
        A path or URL of a scan.
    cloud_options
        The ``cloud_options`` of the scan node, as decoded from the plan.

    Returns
    -------
    tuple
        The store, the prefix that every path in it has as polars takes it, and the key of `path` in the store.

    Raises
    ------
    SourceError
        When the store can't be opened with these options.
    """
    if not is_remote(path):
        local = Path(local_path(path)).absolute()
        return LocalStore(), "/", str(local).lstrip("/")
    parts = urlsplit(path)
    root = f"{parts.scheme}://{parts.netloc}"
    config = msgspec.json.encode(cloud_config(cloud_options))
    return _remote_store(root, config), f"{root}/", path[len(root) :].lstrip("/")


def stat_file(path: str, cloud_options: object) -> FileStat:
    """Return size and etag of one file; one HEAD request.

    Raises
    ------
    FileNotFoundError
        When it does not exist.
    SourceError
        When the store refuses or can't be reached.
    """
    store, _, key = scan_store(path, cloud_options)
    try:
        meta = obstore.head(store, key)
    except FileNotFoundError:
        raise FileNotFoundError(f"No such file or directory (os error 2): {path}") from None
    except Exception as error:  # obstore's errors have no public common base besides Exception
        raise SourceError(f"can't read {path}: {reason_of(error)}", where={"file": path}) from error
    return FileStat(path=path, size=meta["size"], etag=meta["e_tag"])


@lru_cache(maxsize=64)
def _remote_store(root: str, config: bytes) -> ObjectStore:
    options = cast("dict[str, str]", msgspec.json.decode(config))
    endpoint = options.get("endpoint") or next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    plain_http = endpoint.startswith("http://") or options.get("allow_http") == "true"
    options.pop("allow_http", None)
    try:
        store: ObjectStore = from_url(
            root,
            config=options,  # type: ignore[call-overload]  # the keys are the store's own, known only at run time
            client_options={"allow_http": plain_http, "timeout": "30s", "connect_timeout": "5s"},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=10)},
        )
    except Exception as error:  # obstore raises several unrelated classes for bad options
        raise SourceError(f"can't open {root}: {reason_of(error)}") from error
    return store


def cloud_config(cloud_options: object) -> dict[str, str]:
    """Return a plan's ``cloud_options.config``, e.g. ``{"Aws": [["AccessKeyId", "…"]]}``, as obstore's options."""
    if not isinstance(cloud_options, Mapping) or not isinstance(config := cloud_options.get("config"), Mapping):
        return {}
    found: dict[str, str] = {}
    for pairs in config.values():
        for name, value in cast("list[list[object]]", pairs or []):
            inner = next(iter(name.values())) if isinstance(name, Mapping) else name
            found[_snake(str(inner))] = str(value)
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def reason_of(error: BaseException) -> str:
    """Return the first line of what the store said; it holds no credentials."""
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
