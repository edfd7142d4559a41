"""Tells whether the files that a task scanned are still those that the query was planned with.

It is asked after the scan and before anything is published: what was read is then known to be what was planned, without
a gap between check and read. It costs one HEAD request a remote file. It judges identity only: a file that is missing or
may not be read is Polars' to report, as Polars would.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

from frazil_functions.errors import SourceError
from frazil_functions.scan_files import of_each, stat_file
from frazil_functions.task import Split

__all__ = ["changed_source", "secret_values"]

logger = logging.getLogger(__name__)

_HEADS_AT_ONCE: Final = 8
_SECRET_WORDS: Final = ("key", "secret", "token", "password", "sas")


def changed_source(splits: Iterable[Split], cloud_options: object) -> SourceError | None:
    """Return an error when a file is not the one that was planned, else None.

    Parameters
    ----------
    splits
        What was scanned; those that hold neither size nor etag are not checked.
    cloud_options
        What polars read them with: the member ``cloud_options`` of the scan.
    """
    planned = {split.path: split for split in splits if split.size is not None or split.etag is not None}
    found = of_each(
        lambda split: _check(split, cloud_options),
        list(planned.values()),
        path=lambda split: split.path,
        threads=_HEADS_AT_ONCE,
    )
    return next((error for error in found if error is not None), None)


def _check(split: Split, cloud_options: object) -> SourceError | None:
    try:
        now = stat_file(split.path, cloud_options)
    except FileNotFoundError:
        return None  # Polars says so in its own words
    except SourceError as error:
        # The credentials may come from where only polars looks. Reading has told what there is to tell.
        logger.info("source not checked path=%s reason=%s", split.path, error.message)
        return None
    same_size = split.size is None or now.size == split.size
    same_etag = split.etag is None or now.etag is None or now.etag == split.etag
    if same_size and same_etag:
        return None
    return SourceError(
        "the file was replaced or changed since the query was planned: run it again", where={"file": split.path}
    )


def secret_values(cloud_options: object) -> set[str]:
    """Return the values of the scan's options that may be secret, to keep them out of messages.

    Parameters
    ----------
    cloud_options
        See :func:`changed_source`; polars writes ``{"config": {"Aws": [[name, value], ...]}}``.
    """
    config = cloud_options.get("config") if isinstance(cloud_options, dict) else None
    groups = config.values() if isinstance(config, dict) else ()
    pairs = [pair for group in groups if isinstance(group, list) for pair in group if isinstance(pair, list)]
    return {str(value) for name, value in pairs if any(word in str(name).lower() for word in _SECRET_WORDS)}
