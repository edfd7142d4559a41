"""Replace SQL nodes, where that is certain.

Certain means: over stand-ins for the relations, polars' unoptimised plan of the text and that of the LazyFrame built here
read the same, and so do their schemas. Stand-ins are never read. Next: :mod:`~frazil_coordinator.plan.sql.query`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Final, cast

import polars as pl
from polars.exceptions import PolarsError
from sqlglot.errors import SqlglotError

from frazil_coordinator.plan.sql.catalogs import Name, executed, key_of, with_short_names
from frazil_coordinator.plan.sql.dialect import Unclear, parse
from frazil_coordinator.plan.sql.query import QueryBuilder
from frazil_functions.arena import Arena, Raw
from frazil_functions.task import input_path

__all__ = ["build_sql", "expand_sql"]

_LOG: Final = logging.getLogger(__name__)
_TEMPORARY: Final = re.compile(r"_POLARS_TMP_SQL_\d+|CACHE\[id: [0-9a-f-]+\]")
"""Polars numbers its temporary columns through the life of the process, and gives caches random ids."""

_NO_OFFSET: Final = ", offset: 0"
"""A row index from Python says that it begins at 0; one from SQL does the same without saying so."""


def expand_sql(arena: Arena) -> Arena:
    """Replace each SQL node by the nodes of an equal LazyFrame; one that is not surely understood stays.

    Parameters
    ----------
    arena
        The user's plan, free of Python objects; it is changed in place.

    Returns
    -------
    Arena
        The same arena.
    """
    for number in arena.reachable():
        if arena.kind(number) != "SQL":
            continue
        try:
            _replace(arena, number)
        except (
            Unclear,
            PolarsError,
            SqlglotError,
            RecursionError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as reason:
            # The last ones: a tree is not as this was written for.
            # A query that polars refuses, too, raises polars' own error when its schema is asked for.
            _LOG.debug("a SQL query stays whole: %s", reason)
    return arena


def _replace(arena: Arena, number: int) -> None:
    payload = arena.payload(number)
    relations: list[tuple[str | Name, int]] = [
        (str(name), _index(ref)) for name, ref in cast("list[tuple[object, object]]", payload["relations"])
    ]
    # Of a table of a catalog there is the name as it is written, and as it is known.
    relations += [
        (tuple(str(part) for part in written), _index(ref))
        for written, _, ref in cast("list[tuple[list[object], object, object]]", payload.get("catalog_tables") or [])
    ]
    stand_ins = {
        name: pl.scan_parquet(input_path(place), schema=arena.lazy(reference).collect_schema(), glob=False)
        for place, (name, reference) in enumerate(relations)
    }
    built = Arena.of(build_sql(str(payload["query"]), stand_ins))
    base = len(arena.nodes)
    root = arena.append(built)
    places = {base + node: relations[place][1] for place, nodes in built.placeholders().items() for node in nodes}
    arena.redirect({**places, number: places.get(root, root)})


def _index(reference: object) -> int:
    return cast("int", cast("Raw", reference)["idx"])


def build_sql(query: str, relations: Mapping[str, pl.LazyFrame] | Mapping[str | Name, pl.LazyFrame]) -> pl.LazyFrame:
    """Return a LazyFrame that is equal to a SQL query, without a SQL node.

    Parameters
    ----------
    query
        The statement.
    relations
        Table name → LazyFrame; of a table of a catalog, all parts of its name. They must differ in how polars explains them.

    Raises
    ------
    Unclear
        When the query is not surely understood; the message says why.
    polars.exceptions.PolarsError, sqlglot.errors.SqlglotError
        When the statement is wrong, or nobody's.
    """
    plain = {name: lf for name, lf in relations.items() if isinstance(name, str)}
    others = {name: lf for name, lf in relations.items() if not isinstance(name, str)}
    original = executed(query, plain, others)
    schema = original.collect_schema()
    tree = with_short_names(parse(query))
    known = {**plain, **{key_of(name): lf for name, lf in others.items()}}
    mirror = QueryBuilder(known, mirror=True).build(tree)
    if list(mirror.collect_schema().items()) != list(schema.items()):
        raise Unclear("its columns would differ")
    if _explained(mirror) != _explained(original):
        raise Unclear("polars explains it in another way")
    best = QueryBuilder(known, mirror=False).build(tree)
    if list(best.collect_schema().items()) != list(schema.items()):
        raise Unclear("its columns would differ")
    return best


def _explained(lf: pl.LazyFrame) -> str:
    names: dict[str, str] = {}
    text = lf.explain(optimized=False).replace(_NO_OFFSET, "")
    return _TEMPORARY.sub(lambda found: names.setdefault(found[0], f"temporary {len(names)}"), text)
