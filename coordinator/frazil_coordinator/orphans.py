"""Collecting what nobody will ask for again: exchange objects of queries that no coordinator knows.

An attempt that a dead coordinator had sent may write its object after the query was cleaned up; a query of a coordinator
without a journal leaves all of its objects when that one is killed. :mod:`frazil_coordinator.hygiene` deletes what a query
leaves that ends as it should.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from frazil_coordinator.schedule.bind import query_prefixes
from frazil_functions.ids import QueryId
from frazil_functions.storage import ObjectInfo, Store

__all__ = ["collect_orphans", "newest_by_query"]

_LOGGER = logging.getLogger(__name__)


def newest_by_query(objects: Iterable[ObjectInfo], exchange_prefix: str) -> dict[QueryId, float]:
    """Return when the newest object of each query was written, in seconds since 1970.

    Parameters
    ----------
    objects
        What a listing of the exchange found; what does not lie below the prefix of a query is left out.
    exchange_prefix
        Key prefix of all exchange objects.
    """
    root = exchange_prefix.strip("/")
    newest: dict[QueryId, float] = {}
    for info in objects:
        _, _, below = info.key.removeprefix(root).lstrip("/").partition("/")  # behind the two digits that spread load
        query = QueryId(below.partition("/")[0])
        if query and info.key.startswith(query_prefixes(exchange_prefix, query)):
            newest[query] = max(newest.get(query, 0.0), info.modified_unix_s)
    return newest


async def collect_orphans(
    store: Store, exchange_prefix: str, is_known: Callable[[QueryId], bool], older_than_s: float
) -> tuple[QueryId, ...]:
    """Delete the exchange objects of queries that are not known and wrote nothing for a long time; return these queries.

    Requests: 1 LIST per 1,000 objects of the exchange, and a LIST and a DELETE for each query found.

    Parameters
    ----------
    store, exchange_prefix
        Where exchange objects lie.
    is_known
        Whether a query is one of this coordinator.
    older_than_s
        Age of the newest object below which a query may be one of another coordinator without a journal, and is left alone.

    Raises
    ------
    StorageError
        When the store can't be listed, or refuses to delete.
    """
    newest = newest_by_query(await asyncio.to_thread(store.list, exchange_prefix), exchange_prefix)
    before = time.time() - older_than_s
    orphans = tuple(query for query, written in newest.items() if written < before and not is_known(query))
    for query in orphans:
        for prefix in query_prefixes(exchange_prefix, query):
            await asyncio.to_thread(store.delete_prefix, prefix)
    if orphans:
        _LOGGER.info("deleted objects of queries that nobody knows", extra={"queries": list(orphans)})
    return orphans
