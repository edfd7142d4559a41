"""Which files a scan names: paths, globs and directories, on local disks and in object stores, as polars expands them.

:mod:`~frazil_coordinator.plan.tables` reads the footers of what is found here.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import translate
from pathlib import Path
from typing import Final

import obstore

from frazil_functions.errors import SourceError
from frazil_functions.scan_files import FileStat, is_remote, scan_store, stat_file

__all__ = ["expand"]

_MAGIC: Final = re.compile(r"[*?\[]")
_THREADS: Final = 16


def expand(paths: Sequence[str], cloud_options: object, *, use_glob: bool) -> list[FileStat]:
    """Return the files that a scan's paths stand for, in the order in which polars reads them.

    Globs and directories are sorted by path; explicit files keep their order. Requests: one LIST per glob or remote
    directory, one HEAD per explicit file.

    Raises
    ------
    FileNotFoundError
        When an explicit file does not exist, or a glob or directory has no file.
    SourceError
        When the store refuses.
    """
    found: list[FileStat] = []
    explicit: list[str] = []

    def flush() -> None:
        with ThreadPoolExecutor(min(_THREADS, max(1, len(explicit)))) as pool:
            found.extend(pool.map(lambda path: stat_file(path, cloud_options), explicit))
        explicit.clear()

    for path in paths:
        if use_glob and _MAGIC.search(path):
            names = list(_glob(path, cloud_options))
        elif _is_directory(path):
            names = list(_directory(path, cloud_options))
        else:
            explicit.append(path)
            continue
        flush()
        if not names:
            raise FileNotFoundError(f"no file matches {path}")
        found.extend(sorted(names, key=lambda file: file.path))
    flush()
    return found


def _is_directory(path: str) -> bool:
    if is_remote(path):
        return path.endswith("/")
    return Path(path.removeprefix("file://")).is_dir()


def _glob(path: str, cloud_options: object) -> Iterator[FileStat]:
    if not is_remote(path):
        found = glob.iglob(path.removeprefix("file://"), recursive=True)  # noqa: PTH207  # absolute patterns
        names = map(Path, dict.fromkeys(found))  # a file matches several ``**`` in several ways
        yield from (stat_file(str(name), None) for name in names if name.is_file())
        return
    magic = _MAGIC.search(path)
    prefix = path[: magic.start() if magic else len(path)].rpartition("/")[0] + "/"
    pattern = re.compile(_glob_regex(path))
    yield from (file for file in _list(prefix, cloud_options) if pattern.fullmatch(file.path))


def _directory(path: str, cloud_options: object) -> Iterator[FileStat]:
    if not is_remote(path):
        root = Path(path.removeprefix("file://"))
        files = (name for name in root.rglob("*") if name.is_file() and not name.name.startswith("."))
        yield from (stat_file(str(name), None) for name in files)
        return
    yield from _list(path, cloud_options)


def _list(prefix: str, cloud_options: object) -> Iterator[FileStat]:
    store, root, key = scan_store(prefix, cloud_options)
    try:
        for batch in obstore.list(store, key):
            for meta in batch:
                if meta["size"] > 0:
                    yield FileStat(path=root + meta["path"], size=meta["size"], etag=meta["e_tag"])
    except Exception as error:  # obstore's errors have no public common base besides Exception
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise SourceError(f"can't list {prefix}: {reason}", where={"file": prefix}) from error


def _glob_regex(path: str) -> str:
    """Return the regular expression of a glob: ``*`` and ``?`` stay inside a folder, ``**`` crosses folders."""
    pieces: list[str] = []
    for part in re.split(r"(\*\*/?|\*|\?|\[[^\]]*\])", path):
        if part.startswith("**"):
            pieces.append("(?:.*/)?" if part.endswith("/") else ".*")
        elif part == "*":
            pieces.append("[^/]*")
        elif part == "?":
            pieces.append("[^/]")
        elif part.startswith("["):
            pieces.append(translate(part).removeprefix("(?s:").removesuffix(")\\Z"))
        else:
            pieces.append(re.escape(part))
    return "".join(pieces)
