"""Which files a scan names: paths, globs and directories, on local disks and in object stores, as polars expands them.

:mod:`~frazil_coordinator.plan.tables` reads the footers of what is found here.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import obstore

from frazil_coordinator.plan.explicit import Unsplittable
from frazil_functions.errors import SourceError
from frazil_functions.scan_files import FileStat, as_listed, is_remote, local_path, of_each, reason_of, scan_store, stat_file

__all__ = ["expand"]

_FILE: Final = "file:"
_MAGIC: Final = re.compile(r"[*?\[]")
_URL_MAGIC: Final = re.compile(r"[*\[]")
_UNLIKE: Final = re.compile(r"[?()|+^${}\\]|\[[^\]]*\*|\*\*[^/]|[^/]\*\*")
"""What means something else in polars' regular expressions than in ours, or in a pattern."""

_PIECES: Final[Mapping[str, str]] = {"**/": "(?:.*/)?", "**": "(?:.*/)?", "*": "[^/]*", ".": r"\."}
_THREADS: Final = 16


def expand(paths: Sequence[str], cloud_options: object, *, use_glob: bool, hidden: Sequence[str] = ()) -> list[FileStat]:
    """Return the files that a scan's paths stand for, in the order in which polars reads them.

    Globs and directories are sorted by path and leave out files without bytes; explicit files keep their order. Requests:
    one LIST per glob or remote directory, one HEAD per explicit file.

    Parameters
    ----------
    paths, cloud_options
        Of the scan.
    use_glob
        Whether ``*``, ``?`` and ``[`` mean more than themselves.
    hidden
        What the names of files begin with that are left out.

    Raises
    ------
    FileNotFoundError
        When an explicit file does not exist.
    SourceError
        When the store refuses.
    Unsplittable
        When only polars knows what a pattern means.
    """
    found: list[FileStat] = []
    explicit: list[str] = []

    def flush() -> None:
        found.extend(of_each(lambda path: stat_file(path, cloud_options), explicit, path=str, threads=_THREADS))
        explicit.clear()

    for path in paths:
        names = _expanded(path, cloud_options, use_glob=use_glob)
        if names is None:
            explicit.append(as_listed(path))
            continue
        flush()
        found.extend(sorted(names, key=lambda file: file.path))
    flush()
    return [file for file in found if not file.path.rpartition("/")[2].startswith(tuple(hidden))]


def _expanded(path: str, cloud_options: object, *, use_glob: bool) -> Iterator[FileStat] | None:
    """Return the files of a glob or directory; None for anything else."""
    if path.startswith(_FILE) and "%" in path:  # an escaped URI is a path, never a pattern
        folder = local_path(path)
        return _local_directory(folder) if Path(folder).is_dir() else None
    if is_remote(path) or path.startswith(_FILE):
        if use_glob and _MAGIC.search(path):
            return _glob(path, cloud_options)
        return _list(path, cloud_options) if path.endswith("/") else None
    if Path(path).is_dir():
        return _local_directory(path)
    return _local_glob(path) if use_glob and _MAGIC.search(path) else None


def _local_glob(pattern: str) -> Iterator[FileStat]:
    found = glob.iglob(pattern, recursive=True, include_hidden=True)  # noqa: PTH207  # absolute patterns
    return _with_bytes(map(Path, dict.fromkeys(found)))  # a file matches several ``**`` in several ways


def _local_directory(folder: str) -> Iterator[FileStat]:
    names = (Path(root, name) for root, _, names in os.walk(folder, followlinks=True) for name in names)
    return _with_bytes(names)


def _with_bytes(names: Iterable[Path]) -> Iterator[FileStat]:
    return (stat_file(str(name), None) for name in names if name.is_file() and name.stat().st_size > 0)


def _glob(pattern: str, cloud_options: object) -> Iterator[FileStat]:
    """Return what matches among all files of the folder before the first wildcard."""
    folder, expression = _glob_regex(as_listed(pattern))
    return (file for file in _list(folder, cloud_options) if expression.fullmatch(file.path[len(folder) :]))


def _list(prefix: str, cloud_options: object) -> Iterator[FileStat]:
    store, root, key = scan_store(prefix, cloud_options)
    start = f"{_FILE}//" if prefix.startswith(_FILE) else ""
    try:
        for batch in obstore.list(store, key):
            for meta in batch:
                if meta["size"] > 0:
                    path = start + root + meta["path"]
                    if start and "%" in path:
                        raise Unsplittable("a scan of file:// URLs of names with per cents is not split")
                    yield FileStat(path=path, size=meta["size"], etag=meta["e_tag"])
    except Unsplittable:
        raise
    except Exception as error:  # obstore's errors have no public common base besides Exception
        raise SourceError(f"can't list {prefix}: {reason_of(error)}", where={"file": prefix}) from error


def _glob_regex(pattern: str) -> tuple[str, re.Pattern[str]]:
    """Return the folder before the first wildcard of a URL, and the regular expression of what follows it.

    Notes
    -----
    Polars 2.1 (``extract_prefix_expansion``) replaces ``**/``, ``*`` and the dot, and leaves the rest to a regular
    expression, so a question mark is no wildcard.
    """
    wild = _URL_MAGIC.search(pattern)
    folder, slash, rest = pattern[: wild.start() if wild else len(pattern)].rpartition("/")
    rest += pattern[wild.start() :] if wild else ""
    if _UNLIKE.search(rest):
        raise Unsplittable("a scan with a pattern of an unusual form is not split")
    pieces = (_PIECES.get(part, part) for part in re.split(r"(\*\*(?:/|$)|\*|\.)", rest))
    return folder + slash, re.compile("".join(pieces))
