"""One query's sink: where its tasks write, and how what they wrote becomes visible.

All methods block; :mod:`frazil_coordinator.execution` calls them in threads. Requests, besides those by which Polars writes
the files: 1 LIST to begin with; 1 LIST, 1 conditional PUT, one copy a file (a folder renames) and 2 DELETE with 1 LIST to
publish. A query that fails costs 1 LIST and its DELETE.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypedDict

from frazil_coordinator.plan.model import Sink
from frazil_coordinator.publication.manifest import MANIFEST, STAGING, Manifest, ManifestFile, encode_manifest, join
from frazil_coordinator.publication.pending import finish, finish_found, finish_pending, install_all
from frazil_functions.errors import BlockError, FrazilError, InternalError, StorageError
from frazil_functions.ids import QueryId
from frazil_functions.scan_files import cloud_config
from frazil_functions.storage import CountingStore, Store, open_store
from frazil_functions.task import SinkFile, SinkOutput

__all__ = ["Publication", "PublicationName", "SinkProfile", "sink_store"]

_SLOW: Final = {"timeout": "900s", "read_timeout": "900s"}
"""A store answers when it has copied a file of gigabytes, and not before."""

_LOGGER = logging.getLogger(__name__)


class SinkFileProfile(TypedDict):
    """A file that a sink wrote."""

    path: str
    """Relative to the target folder; of a single file its name."""

    rows: int
    bytes: int


class SinkProfile(TypedDict):
    """What a sink wrote, in the profile of its query."""

    target: str
    files: int
    rows: int
    bytes: int
    requests: dict[str, int]
    """Of the coordinator to the target's store, by operation."""

    file_list: list[SinkFileProfile]


def sink_store(url: str, cloud_options: object) -> Store:
    """Open the store of a sink.

    Parameters
    ----------
    url
        Path or URL.
    cloud_options
        As decoded from the plan.

    Raises
    ------
    StorageError
        When it can't be opened.
    """
    options = cloud_config(cloud_options)
    if options.get("endpoint", "").startswith("http://"):
        options.setdefault("allow_http", "true")
    return open_store(url, {**_SLOW, **options})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationName:
    """What the files of a query are called, as far as its plan does not say it."""

    folder: str
    """Name of the folder of the staged files."""

    stamp: str
    """The time, in the names of a dataset's files."""

    @classmethod
    def of(cls, query: QueryId) -> PublicationName:
        """Return a new name."""
        # Not the query alone: one that is planned again must not be swept away with what it wrote before.
        return cls(folder=f"{query}-{secrets.token_hex(4)}", stamp=datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ"))


class Publication:
    """The files of one query.

    Parameters
    ----------
    sink
        What the plan says.
    query
        The query.
    store
        The target's store, when it isn't to be opened here.
    name
        What another coordinator that ran the query called its files; None: a new name.
    """

    def __init__(
        self, sink: Sink, query: QueryId, store: Store | None = None, *, name: PublicationName | None = None
    ) -> None:
        self._sink = sink
        self._query = query
        self._given = store
        self._opened: CountingStore | None = None
        self.name = name or PublicationName.of(query)
        self._begun_before = name is not None
        self._staging = join(sink.base, STAGING, self.name.folder)
        self._committed = False
        self._written: list[SinkFileProfile] = []
        self.finished = False
        """Whether the files are visible and nothing is left of the staged ones."""

    @property
    def output(self) -> SinkOutput:
        """What the tasks of the root stage are told."""
        names = {"file": self._sink.name, "partitioned": "", "named": ""}
        name = names.get(self._sink.kind, f"0.{self._sink.name}")
        root = self._sink.store.rstrip("/")
        return SinkOutput(node=self._sink.node, folder=f"{root}/{self._staging}", name=name)

    def profile(self) -> SinkProfile:
        """Return what was written; nothing before it was published."""
        return SinkProfile(
            target=self._sink.target,
            files=len(self._written),
            rows=sum(file["rows"] for file in self._written),
            bytes=sum(file["bytes"] for file in self._written),
            requests={} if self._opened is None else self._opened.requests,
            file_list=self._written,
        )

    def prepare(self) -> None:
        """Look whether the target can be written, and finish what others left unfinished beside it.

        Raises
        ------
        StorageError
            When the store can't be opened, or refuses.
        """
        try:
            finish_pending(self._store(), self._sink.base)
        except StorageError as error:
            raise type(error)(f"{error.message}; path: {self._sink.target}", where=error.where) from error

    def publish(self, tasks: Sequence[Sequence[SinkFile]], *, again: bool = False) -> None:
        """Make the files visible.

        Parameters
        ----------
        tasks
            What the tasks wrote, by task.
        again
            Whether another coordinator may have begun, or finished, to make them visible.

        Raises
        ------
        InternalError
            When a file is not there as its task wrote it.
        StorageError
            When the store refuses. Either nothing is visible then, or the message says how to finish.
        """
        store = self._store()
        files = self._files(tasks)
        if not files:
            return  # no rows, by keys or for a table
        manifest = Manifest(query=self._query, target=self._sink.target, committed_unix_s=time.time(), files=files)
        found = store.list(join(self._sink.base, STAGING))
        staged = {info.key: info.size for info in found}
        if again and join(self._staging, MANIFEST) in staged:
            self._committed = True
        elif not again or any(join(self._staging, file.staged) in staged for file in files):
            self._check_staged(files, staged)
            finish_found(store, self._sink.base, found, but=self.name.folder)
            self._commit(store, manifest)
        else:  # no manifest and no staged file: all that is left of a publication that was finished
            self._tell(files)
            self.finished = True
            return
        self._install(store, manifest)

    def _check_staged(self, files: Sequence[ManifestFile], staged: Mapping[str, int]) -> None:
        for file in files:
            if staged.get(join(self._staging, file.staged)) != file.bytes:
                raise InternalError(f"staged file {file.staged} of query {self._query} is missing or has another size")

    def _install(self, store: Store, manifest: Manifest) -> None:
        try:
            install_all(store, self._staging, self._sink.base, manifest)
        except FrazilError as error:
            raise StorageError(
                f"the files of query {self._query} are committed and may be visible in part: {error.message}. The next sink "
                f"beside {self._sink.target} finishes it, by the manifest {store.url}/{self._staging}/{MANIFEST}"
            ) from error
        self._tell(manifest.files)
        self._committed = False
        try:
            finish(store, self._staging)
        except FrazilError as error:  # the files are all there; who finds the manifest installs them once more
            _LOGGER.warning("staged files not deleted", extra={"query": self._query, "error": error.message})
        else:
            self.finished = True

    def _tell(self, files: Sequence[ManifestFile]) -> None:
        start = len(join(self._sink.folder, "x")) - 1
        self._written = [SinkFileProfile(path=file.published[start:], rows=file.rows, bytes=file.bytes) for file in files]

    def discard(self) -> None:
        """Delete the staged files, unless they are committed.

        Raises
        ------
        StorageError
            When the store refuses.
        """
        if (self._opened is not None or self._begun_before) and not self._committed:
            self._store().delete_prefix(self._staging)

    def _store(self) -> CountingStore:
        if self._opened is None:
            self._opened = CountingStore(self._given or sink_store(self._sink.store, self._sink.cloud_options))
        return self._opened

    def _commit(self, store: Store, manifest: Manifest) -> None:
        key, data = f"{self._staging}/{MANIFEST}", encode_manifest(manifest)
        self._committed = True  # from here on nobody may delete: the answer may be lost, and the manifest be there
        try:
            if not store.create(key, data) and store.get(key) != data:
                raise InternalError(f"query {self._query} was committed by somebody else")
        except FrazilError:
            with suppress(BlockError):
                store.head(key)
                raise
            self._committed = False
            raise

    def _files(self, tasks: Sequence[Sequence[SinkFile]]) -> tuple[ManifestFile, ...]:
        """Return the files with their names: those with rows; when there are none, one that holds the schema."""
        written = [file for files in tasks for file in files]
        kept = [file for file in written if file.rows] or ([] if self._sink.kind == "named" else written[:1])
        numbers: Counter[str] = Counter()
        named: list[ManifestFile] = []
        for number, file in enumerate(kept):
            name = self._name(file.path, number, numbers)
            target = join(self._sink.folder, name)
            named.append(ManifestFile(staged=file.path, published=target, rows=file.rows, bytes=file.bytes))
        return tuple(named)

    def _name(self, staged: str, number: int, numbers: Counter[str]) -> str:
        """Return the name of the file `number`; `numbers` counts the files in each folder of keys."""
        sink = self._sink
        if sink.kind == "file":
            return sink.name
        if sink.kind == "dataset":
            return f"{self.name.stamp}-{self._query}-{number:05d}.{sink.name}"
        # <execution>/<folders of keys>/<number>.<ending>, as polars names them; the numbers go on from task to task.
        path = staged.partition("/")[2]
        if sink.kind == "named":
            return path
        folders = path.rpartition("/")[0]
        if sink.kind == "numbered":
            return f"{int(folders.partition('=')[2] or 0):08x}.{sink.name}"
        numbers[folders] += 1
        return join(folders, f"{numbers[folders] - 1:08x}.{sink.name}")
