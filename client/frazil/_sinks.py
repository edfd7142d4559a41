"""The ``sink_*`` of an engine: files are written by functions, what lives in this process by this process.

A sink to paths is a query whose plan ends in a sink node (docs/sinks.md). A sink to a Python object (``BytesIO``, a
callback), or one that asks a function of this process for names or tells it of files, is served here from the query's rows
as they come, by Polars' own writer.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from polars.io.plugins import register_io_source

from frazil._batches import QueryBatches
from frazil._delta import delta_sink
from frazil._query import user_errors
from frazil._serialize import check_local_target
from frazil._written import WrittenFile

if TYPE_CHECKING:
    from typing import IO

    from deltalake import DeltaTable

__all__ = ["SinkMethods"]


class SinkMethods(pl.Engine):
    """What :class:`frazil.Engine` does for ``lf.sink_parquet(target, engine=engine)`` and its like.

    Polars hands over every option by name, and they go into the plan as they are.
    """

    @property
    @abstractmethod
    def _shares_files(self) -> bool: ...

    @abstractmethod
    def _batches(self, lf: pl.LazyFrame, *, chunk_size: int | None = None) -> QueryBatches: ...

    @abstractmethod
    def _written_files(self, sink: pl.LazyFrame) -> list[WrittenFile]: ...

    def sink_parquet(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | pl.PartitionBy,
        *,
        optimizations: pl.QueryOptFlags,
        **options: Any,  # noqa: ANN401  # polars' own, passed on
    ) -> None:
        """See :meth:`polars.LazyFrame.sink_parquet`; a target that ends with ``/`` is a folder of files."""
        self._sink("sink_parquet", lf, path, optimizations, options)

    def sink_ipc(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | pl.PartitionBy,
        *,
        optimizations: pl.QueryOptFlags,
        **options: Any,  # noqa: ANN401  # polars' own, passed on
    ) -> None:
        """See :meth:`polars.LazyFrame.sink_ipc`; a target that ends with ``/`` is a folder of files."""
        self._sink("sink_ipc", lf, path, optimizations, options)

    def sink_csv(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | IO[str] | pl.PartitionBy,
        *,
        optimizations: pl.QueryOptFlags,
        **options: Any,  # noqa: ANN401  # polars' own, passed on
    ) -> None:
        """See :meth:`polars.LazyFrame.sink_csv`; a target that ends with ``/`` is a folder of files."""
        self._sink("sink_csv", lf, path, optimizations, options)

    def sink_ndjson(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | IO[str] | pl.PartitionBy,
        *,
        optimizations: pl.QueryOptFlags,
        **options: Any,  # noqa: ANN401  # polars' own, passed on
    ) -> None:
        """See :meth:`polars.LazyFrame.sink_ndjson`; a target that ends with ``/`` is a folder of files."""
        self._sink("sink_ndjson", lf, path, optimizations, options)

    def sink_delta(
        self,
        lf: pl.LazyFrame,
        target: str | Path | DeltaTable,
        *,
        mode: Literal["error", "append", "overwrite", "ignore"] = "error",
        storage_options: Mapping[str, str] | None = None,
        delta_write_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a query to a Delta table: functions write its files, and this process commits them.

        ``lf.sink_delta(target, engine=engine)`` works too, and streams every row through this process.

        Parameters
        ----------
        lf
            The query.
        target
            Path or URL of the table's folder, or the table.
        mode
            What happens when the table exists: an error, rows are added, rows are replaced, nothing.
        storage_options
            Credentials of the table's store, for functions and for the commit.
        delta_write_options
            ``partition_by``, ``name``, ``description``, ``configuration``, ``schema_mode="overwrite"`` (with the mode of
            this name), ``commit_properties``, ``post_commithook_properties``: as ``deltalake.write_deltalake`` has them.

        Raises
        ------
        ValueError, TypeError
            Before anything runs: for what functions can't write (other options, tables with constraints, generated or
            non-nullable columns), with advice, and for dtypes that Delta does not have.
        deltalake.exceptions.DeltaError
            The table exists, its partition columns or its schema are others, or the commit failed; no file is left then.
        PolarsError, FrazilError
            As ``collect`` does.
        """
        sink = delta_sink(
            lf, target, mode=mode, storage_options=storage_options, write_options=dict(delta_write_options or {})
        )
        if sink is not None:
            sink.commit(self._written_files(sink.lf))

    def sink_batches(
        self,
        lf: pl.LazyFrame,
        function: Callable[[pl.DataFrame], bool | None],
        *,
        chunk_size: int | None,
        maintain_order: bool,
        optimizations: pl.QueryOptFlags,
    ) -> None:
        """See :meth:`polars.LazyFrame.sink_batches`; `function` runs in this process, and the order of rows is kept."""
        del maintain_order, optimizations
        batches = self._batches(lf, chunk_size=chunk_size)
        try:
            for frame in batches:
                if function(frame):
                    return
        finally:
            batches.close()

    def _sink(
        self, method: str, lf: pl.LazyFrame, path: object, optimizations: pl.QueryOptFlags, options: dict[str, Any]
    ) -> None:
        if optimizations._pyoptflags.eager:  # noqa: SLF001  # how polars marks what a DataFrame asks for: it stays here
            getattr(lf, method)(path, engine=pl.StreamingEngine(), optimizations=optimizations, **options)
        elif isinstance(path, str | Path | pl.PartitionBy) and not _calls_python(path, options):
            if isinstance(path, str) and path.endswith("/") and "://" not in path:
                path = self._folder_url(path)
            plan: pl.LazyFrame = getattr(lf, method)(path, lazy=True, **options)
            self.collect(plan, optimizations=optimizations)
        else:
            # An engine, not its name: names can be made to mean this engine.
            getattr(self._rows_here(lf), method)(path, engine=pl.StreamingEngine(), **options)

    def _folder_url(self, path: str) -> str:
        """Return the URL of a folder of files: polars refuses the path of a folder that exists, and not its URL."""
        with user_errors():
            check_local_target(path, shares_files=self._shares_files)
        return f"file://{os.path.join(os.getcwd(), os.path.expanduser(path))}"  # noqa: PTH109,PTH111,PTH118  # a Path would take the slash away

    def _rows_here(self, lf: pl.LazyFrame) -> pl.LazyFrame:
        """Return a LazyFrame of this process whose rows are those of the query `lf`, run when they are asked for."""

        def source(
            with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
        ) -> Iterator[pl.DataFrame]:
            del predicate, n_rows, batch_size  # nothing of the kind can be pushed into a source that is only written
            batches = self._batches(lf)
            try:
                for frame in batches:
                    yield frame if with_columns is None else frame.select(with_columns)
            finally:
                batches.close()

        return register_io_source(source, schema=lf.collect_schema())


def _calls_python(path: str | Path | pl.PartitionBy, options: dict[str, Any]) -> bool:
    """Return whether the writer asks something of this process while it writes."""
    provider = path._pl_partition_by.file_path_provider if isinstance(path, pl.PartitionBy) else None  # noqa: SLF001  # no public door
    return provider is not None or options.get("sinked_paths_callback") is not None or callable(options.get("metadata"))
