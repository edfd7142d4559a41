"""Tables of catalogs in SQL: ``catalog.namespace.table``, whose scans are given beside those of plain names.

Polars' ``SQLContext`` takes catalogs of pyiceberg, and asks them itself, for tables as they are when the query runs. What is
behind its face takes scans that were made before: it says which names of a statement mean tables of a catalog.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import polars as pl
from polars._utils.wrap import wrap_ldf
from sqlglot import exp

if TYPE_CHECKING:
    from polars._plr import PyLazyFrame

__all__ = ["Name", "executed", "key_of", "names_of_catalogs", "relation_of", "with_short_names"]

Name: TypeAlias = tuple[str, ...]
"""Catalog, namespace, and table."""

_BETWEEN: Final = "\x1f"
"""Of the parts of a name: no name holds it."""


class _Inner(Protocol):
    """What polars' SQLContext is behind its face."""

    def register_catalog(self, name: str, namespace: list[str] | None, default: bool, /) -> None: ...  # as it is
    def catalog_tables(self, query: str) -> list[tuple[str, list[str]]]: ...
    def execute_with_catalog_tables(self, query: str, tables: list[tuple[list[str], PyLazyFrame]]) -> PyLazyFrame: ...


def names_of_catalogs(text: str, tables: Iterable[str], catalogs: Iterable[str]) -> list[Name]:
    """Return the tables of catalogs that a statement means, each once, as polars reads it.

    Parameters
    ----------
    text
        One statement.
    tables
        Names that come before those of catalogs.
    catalogs
        Names of catalogs.

    Raises
    ------
    polars.exceptions.PolarsError
        When polars can't read it.
    """
    if not (known := list(catalogs)):
        return []
    empty = {name: pl.LazyFrame() for name in tables}
    with pl.SQLContext(empty, register_globals=False, eager=False) as context:
        found = _with_catalogs(context, known).catalog_tables(text)
    return [(str(catalog), *(str(part) for part in identifier)) for catalog, identifier in found]


def executed(text: str, tables: Mapping[str, pl.LazyFrame], others: Mapping[Name, pl.LazyFrame]) -> pl.LazyFrame:
    """Return polars' plan of a statement over tables, and over tables of catalogs by their whole names.

    Raises
    ------
    polars.exceptions.PolarsError
        When polars refuses it.
    """
    with pl.SQLContext(dict(tables), register_globals=False, eager=False) as context:
        if not others:
            return context.execute(text)
        inner = _with_catalogs(context, dict.fromkeys(name[0] for name in others))
        named = [(list(name), lf._ldf) for name, lf in others.items()]  # noqa: SLF001  # as polars' own method
        return wrap_ldf(inner.execute_with_catalog_tables(text, named))


def _with_catalogs(context: pl.SQLContext[pl.LazyFrame], catalogs: Iterable[str]) -> _Inner:
    inner = cast("_Inner", context._ctxt)  # noqa: SLF001  # see the module
    for name in catalogs:
        inner.register_catalog(name, None, False)
    return inner


def key_of(name: Iterable[str]) -> str:
    """Return the text under which a table of a catalog stands among plain names."""
    return _BETWEEN.join(name)


def with_short_names(tree: exp.Expr) -> exp.Expr:
    """Return a statement whose columns name their tables by the last part alone: ``lake.sales.orders.a`` is ``orders.a``.

    Only where the statement has such a table, without an alias. Whether it still means the same is for who asked to check.
    """
    known = {tuple(part.name for part in table.parts) for table in tree.find_all(exp.Table) if not table.alias}
    for column in tree.find_all(exp.Column):
        given = tuple(part.name for part in column.parts[:-1])
        if len(given) > 1 and any(name[-len(given) :] == given for name in known):
            column.set("db", None)
            column.set("catalog", None)
    return tree


def relation_of(node: exp.Table) -> str | None:
    """Return the name of a parsed table: a plain one, or the key of one of a catalog; None when it is neither."""
    parts = node.parts
    if not all(isinstance(part, exp.Identifier) for part in parts):
        return None
    return key_of(part.name for part in parts)
