"""How the text of a query is parsed, and how parts of it go back to polars.

Scalar expressions keep polars' own meaning: their text is given to :func:`polars.sql_expr`, with names resolved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import polars as pl
from sqlglot import Dialect, TokenType, exp, parser

__all__ = ["Unclear", "has_aggregate", "parse", "to_polars"]


class Unclear(Exception):  # noqa: N818  # not an error: the query stays as it is
    """The query is not surely understood; the message says what stood in the way."""


class _Parser(parser.Parser):
    FUNCTIONS = {}  # noqa: RUF012  # sqlglot's way: every function stays as it was written


class _PolarsSql(Dialect):
    """Functions as written; nulls sort as large, which is polars' default."""

    NULL_ORDERING = "nulls_are_large"
    Parser = _Parser


_INTERVAL: Final = re.compile(r"^(\d+) [A-Za-z]+$")
_DIALECT: Final = _PolarsSql()
_QUERIES: Final = (exp.Query, exp.Exists, exp.Subquery)


def parse(query: str) -> exp.Expr:
    """Return the tree of a statement.

    Raises
    ------
    Unclear
        When it is more than one, or does not go back to the text that it was.
    """
    if "\\" in query:
        raise Unclear("a backslash")
    trees = [tree for tree in _DIALECT.parse(query) if tree is not None]
    if len(trees) != 1:
        raise Unclear("not one statement")
    if _literals(query) != _literals(_DIALECT.generate(trees[0], normalize_functions=False)):
        raise Unclear("its literals would not be given back to polars as they were written")
    return trees[0]


def _literals(query: str) -> list[str]:
    """Return the texts and numbers of a query in order; ``'1 day'`` and ``'1' DAY``, ``.5`` and ``0.5`` are the same."""
    found: list[str] = []
    for token in _DIALECT.tokenize(query):
        if token.token_type == TokenType.NUMBER:
            found.append(repr(float(token.text)) if "." in token.text else token.text)
        elif token.token_type == TokenType.STRING:
            found.append(_INTERVAL.sub(r"\1", token.text))
    return found


def to_polars(node: exp.Expr, resolve: Callable[[exp.Column], str]) -> pl.Expr:
    """Return a scalar expression as polars has it.

    Parameters
    ----------
    node
        The expression.
    resolve
        Gives the name of a column in the frame that the expression is for.

    Raises
    ------
    Unclear
        When the expression holds a query.
    """
    if any(isinstance(part, _QUERIES) for part in node.walk()):
        raise Unclear("a query inside an expression")
    copy = node.copy()
    for column in [part for part in copy.walk() if isinstance(part, exp.Column)]:
        if not isinstance(column.this, exp.Identifier):
            continue
        name = exp.column(exp.to_identifier(resolve(column), quoted=True))
        if column is copy:
            copy = name
        else:
            column.replace(name)
    return pl.sql_expr(_DIALECT.generate(copy, normalize_functions=False, copy=False))


def has_aggregate(raw: object, *, window: bool = False) -> bool:
    """Return whether a raw expression aggregates rows; with `window`, also one that is a window function."""
    stack = [raw]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "Over" in value:
                if window:
                    return True
                continue
            if "Agg" in value:
                return True
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value == "Len":
            return True
    return False
