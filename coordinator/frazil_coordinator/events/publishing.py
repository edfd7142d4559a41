"""Giving the files of a commit their names: what was committed becomes visible, whoever does it, and however often.

The files wait in a folder beside the output. Once the commit is in the trigger's log they are output, and nothing is asked
of the query any more. They are renamed (folder) or copied (object store) to names that the commit says, and then the folder
is deleted, which says that all of them have their names. All functions block. Requests: 1 LIST, one copy a file, 1 DELETE.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypedDict

from frazil_coordinator.events.preparing import Target
from frazil_coordinator.events.state import Output
from frazil_coordinator.publication import ManifestFile
from frazil_coordinator.publication.manifest import join
from frazil_functions.errors import BlockError, InternalError
from frazil_functions.storage import Store

__all__ = ["WrittenFile", "check", "delete_folders", "install", "left_behind", "output_of"]

_AT_ONCE: Final = 16


class WrittenFile(TypedDict):
    """A file that a query wrote, as its profile has it."""

    path: str
    """Relative to the folder that the query wrote to."""

    rows: int
    bytes: int


def output_of(target: Target, staging: str, files: Sequence[WrittenFile], name: str, seq: int) -> Output:
    """Return what a commit says of the files that its query wrote.

    Parameters
    ----------
    target
        Where the output goes.
    staging
        Key of the folder that the query wrote to.
    files
        What it wrote there.
    name, seq
        Of the trigger and the commit: names of files are made of them, so that no two commits give the same.
    """
    sink = target.sink
    if not target.many:
        kept = [ManifestFile(staged=f["path"], published=join(sink.folder, sink.name), rows=f["rows"], bytes=f["bytes"])
                for f in files[:1]]  # fmt: skip
        return Output(store=sink.store, staging=staging, base=sink.base, files=tuple(kept))
    named = list[ManifestFile]()
    for file in files:
        if not file["rows"]:
            continue  # a file that only tells the schema adds nothing
        folders, _, last = file["path"].rpartition("/")
        ending = last.partition(".")[2] or "parquet"
        published = join(sink.folder, folders, f"{name}-{seq:012d}-{len(named):05d}.{ending}")
        named.append(ManifestFile(staged=file["path"], published=published, rows=file["rows"], bytes=file["bytes"]))
    return Output(store=sink.store, staging=staging, base=sink.base, files=tuple(named))


def check(store: Store, output: Output) -> None:
    """Look whether all files are where the commit will say.

    Raises
    ------
    InternalError
        When one is not.
    """
    found = {info.key: info.size for info in store.list(output.staging)}
    for file in output.files:
        if found.get(join(output.staging, file.staged)) != file.bytes:
            raise InternalError(f"file {file.staged} of {output.staging} is missing or has another size")


def install(store: Store, output: Output) -> None:
    """Give all files their names; those that have them already are left alone.

    Raises
    ------
    StorageError
        When the store refuses; some files may have their names then.
    """
    waiting = {info.key for info in store.list(output.staging)}

    def one(file: ManifestFile) -> None:
        staged = join(output.staging, file.staged)
        if staged not in waiting:
            return  # it has its name: it was there when the commit was made, and only this takes it away
        try:
            store.install(staged, join(output.base, file.published), file.bytes)
        except BlockError:
            return  # another coordinator was quicker

    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(output.files)))) as pool:
        for _ in pool.map(one, output.files):
            pass
    store.delete_prefix(output.staging)


def left_behind(store: Store, folder: str, but: Sequence[str]) -> list[str]:
    """Return the folders of what was staged and not committed: all in `folder`, but what holds one of `but`."""
    found = {info.key.removeprefix(f"{folder}/").partition("/")[0] for info in store.list(folder)}
    folders = [f"{folder}/{name}" for name in sorted(found)]
    return [one for one in folders if not any(kept.startswith(f"{one}/") for kept in but)]


def delete_folders(store: Store, folders: Sequence[str]) -> None:
    """Delete all that is in some folders."""
    for folder in folders:
        store.delete_prefix(folder)
