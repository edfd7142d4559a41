"""What polars lowers by the dtype of a column: texts compared with times, ``DATE_TRUNC``, and fields of structs.

:func:`polars.sql_expr` sees no columns, so these parts are built here, and stand-ins take their places in the text.
It does not say which column a name means: that is :mod:`~frazil_coordinator.plan.sql.scope`, which asks this module.
Next: :mod:`~frazil_coordinator.plan.sql.dialect`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import polars as pl
from sqlglot import exp

from frazil_coordinator.plan.exprs import from_expr, plain_column, substitute, to_expr
from frazil_coordinator.plan.sql.dialect import Unclear, to_polars

if TYPE_CHECKING:
    from frazil_coordinator.plan.nodes import RawExpr

__all__ = ["Typed"]

_STAND_IN: Final = "__frazil_typed"
_COMPARISONS: Final = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
_DATETIME: Final = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?)?")
_TIME: Final = re.compile(r"\d\d:\d\d:\d\d")
_EVERY: Final = {
    "microsecond": "1us", "millisecond": "1ms", "second": "1s", "minute": "1m", "hour": "1h", "day": "1d", "week": "1w",
    "month": "1mo", "quarter": "1q", "year": "1y",
}  # fmt: skip


class Typed:
    """An expression whose parts that depend on dtypes are replaced by stand-ins.

    Parameters
    ----------
    node
        The expression; it is not changed.
    schema
        The columns of the frame that it is for.
    column
        Gives the name of a column in that frame.
    field
        Gives the field of a struct that a name of several parts means; None where it means a column.
    """

    def __init__(
        self,
        node: exp.Expr,
        schema: pl.Schema,
        column: Callable[[exp.Column], str],
        field: Callable[[exp.Column], pl.Expr | None],
    ) -> None:
        self._schema = schema
        self._column = column
        self._formulas: dict[str, RawExpr] = {}
        holder = exp.Paren(this=node.copy())
        for one in list(holder.find_all(exp.Column)):
            if (found := field(one)) is not None:
                one.replace(self._stand_in(found))
        for call in reversed(list(filter(_is_date_trunc, holder.find_all(exp.Anonymous)))):  # the innermost first
            call.replace(self._stand_in(self._truncated(call)))
        for part in list(holder.find_all(*_COMPARISONS)):
            self._read_texts(part)
        self.node: exp.Expr = holder.this
        """The expression with stand-ins."""

    def expr(self, node: exp.Expr | None = None) -> pl.Expr:
        """Return the expression, or a part of it, over the frame."""
        found = to_polars(self.node if node is None else node, self._column)
        if not self._formulas:
            return found
        return to_expr(substitute(from_expr(found), lambda part: self._formulas.get(plain_column(part) or "")))

    def _stand_in(self, expr: pl.Expr) -> exp.Column:
        name = f"{_STAND_IN}{len(self._formulas)}"
        self._formulas[name] = from_expr(expr)
        return exp.column(exp.to_identifier(name, quoted=True))

    def _dtype(self, node: exp.Expr) -> pl.DataType:
        if isinstance(node, exp.Column) and (known := self._schema.get(self._column(node))) is not None:
            return known
        (dtype,) = pl.LazyFrame(schema=self._schema).select(self.expr(node)).collect_schema().dtypes()
        return dtype

    def _truncated(self, call: exp.Anonymous) -> pl.Expr:
        unit, value = call.expressions
        every = _EVERY.get(unit.name.lower()) if isinstance(unit, exp.Literal) else None
        dtype = self._dtype(value)
        if every is None or dtype not in (pl.Date, pl.Datetime):
            raise Unclear("a DATE_TRUNC of another kind")
        expr = self.expr(value)
        return (expr.cast(pl.Datetime("us"), strict=False) if dtype == pl.Date else expr).dt.truncate(every)

    def _read_texts(self, comparison: exp.Expr) -> None:
        """Let each text that is compared with times be one, as polars reads it."""
        sides = [side for side in comparison.iter_expressions() if isinstance(side, exp.Expr)]
        texts = [side for side in sides if isinstance(side, exp.Literal) and side.is_string]
        if not texts or not all(_DATETIME.fullmatch(text.name) or _TIME.fullmatch(text.name) for text in texts):
            return
        dtypes = [self._dtype(side) for side in sides if not isinstance(side, exp.Literal)]
        if not dtypes or any(dtype != dtypes[0] or not dtype.is_temporal() for dtype in dtypes):
            return
        for text in texts:
            if dtypes[0] == pl.Date:
                text.replace(exp.cast(text.copy(), "date"))
            else:
                text.replace(self._stand_in(pl.lit(_read(text.name, dtypes[0]), dtype=dtypes[0])))


def _is_date_trunc(call: exp.Anonymous) -> bool:
    return call.name.upper() == "DATE_TRUNC" and len(call.expressions) == 2


def _read(text: str, dtype: pl.DataType) -> dt.datetime | dt.time:
    try:
        if dtype == pl.Datetime and _DATETIME.fullmatch(text):
            return dt.datetime.fromisoformat(text)
        if dtype == pl.Time and _TIME.fullmatch(text):
            return dt.time.fromisoformat(text)
    except ValueError as error:
        raise Unclear("a text that is no time") from error
    raise Unclear("a text that is compared with times of another kind")
