"""How the text of a query is parsed, and how parts of it go back to polars.

Scalar expressions keep polars' own meaning: their text is given to :func:`polars.sql_expr`, with names resolved.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, cast

import polars as pl
from sqlglot import Dialect, Token, TokenType, exp, parser

from frazil_coordinator.plan.exprs import from_expr, kind_of, members, substitute, to_expr
from frazil_coordinator.plan.nodes import RawExpr
from frazil_functions.arena import Raw

__all__ = ["Unclear", "has_aggregate", "parse", "text_of", "to_polars", "tokens_of", "with_named_windows"]


class Unclear(Exception):  # noqa: N818  # not an error: the query stays as it is
    """The query is not surely understood; the message says what stood in the way."""


class _Parser(parser.Parser):
    # sqlglot's way: every function stays as it was written.
    FUNCTIONS = {}  # noqa: RUF012
    FUNCTION_PARSERS = {  # noqa: RUF012
        name: parse for name, parse in parser.Parser.FUNCTION_PARSERS.items() if name != "STRING_AGG"
    }


class _PolarsSql(Dialect):
    """Functions as written; nulls sort as large, which is polars' default."""

    NULL_ORDERING = "nulls_are_large"
    Parser = _Parser


_INTERVAL: Final = re.compile(r"^(\d+) [A-Za-z]+$")
_DIALECT: Final = _PolarsSql()
_AGGREGATING: Final = frozenset({"Quantile"})
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
    if _literals(query) != _literals(text_of(trees[0])):
        raise Unclear("its literals would not be given back to polars as they were written")
    return trees[0]


def tokens_of(query: str) -> list[Token]:
    """Return the tokens of a text; comments are none.

    Raises
    ------
    sqlglot.errors.TokenError
        When a text or a comment has no end.
    """
    return list(_DIALECT.tokenize(query))


def text_of(node: exp.Expr) -> str:
    """Return the text of a tree, as polars reads it."""
    return _DIALECT.generate(node, normalize_functions=False)


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
    found = from_expr(pl.sql_expr(text_of(copy)))
    return to_expr(substitute(found, _known_condition))


def _known_condition(raw: RawExpr) -> RawExpr | None:
    """Return a FILTER (WHERE …) without the CASE that polars adds where it does not know that the condition is Boolean."""
    inner = members(raw)
    place = {"Filter": "by", "Agg": "Sum"}.get(kind_of(raw), "")
    if not isinstance(inner, dict) or place not in inner or kind_of(inner[place]) != "Ternary":
        return None
    case = cast("Raw", members(inner[place]))
    if any(case[name] != from_expr(pl.lit(value)) for name, value in (("truthy", True), ("falsy", False))):
        return None
    return {kind_of(raw): {**inner, place: case["predicate"]}}


def with_named_windows(node: exp.Select) -> exp.Select:
    """Return a SELECT whose windows are written out instead of named (``OVER w … WINDOW w AS (…)``).

    Raises
    ------
    Unclear
        When a window extends another one.
    """
    named = {one.name: one for one in node.args.get("windows") or []}
    if not named:
        return node
    copy = node.copy()
    copy.set("windows", None)
    for window in list(copy.find_all(exp.Window)):
        if not window.alias:
            continue
        given = named.get(window.alias)
        if given is None or given.alias or window.args.get("partition_by"):
            raise Unclear("a window that extends another one")
        written = {name: value for name, value in given.copy().args.items() if name not in ("this", "alias", "over")}
        if window.args.get("order") or window.args.get("spec"):
            if given.args.get("order") or given.args.get("spec"):
                raise Unclear("a window that extends an ordered one")
            written |= {name: window.args[name].copy() for name in ("order", "spec") if window.args.get(name)}
        window.replace(exp.Window(this=window.this.copy(), over="OVER", **written))
    return copy


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
            if "Agg" in value or ("Function" in value and kind_of(value["Function"]["function"]) in _AGGREGATING):
                return True
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
        elif value == "Len":
            return True
    return False
