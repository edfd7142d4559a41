"""Values for the placeholders of a statement: ``?``, ``$1`` or ``:name``.

A value never becomes text by itself: each becomes a literal of its type (sqlglot's), which takes the place of a whole token
of the statement. What comes out is read again, and must be the tokens that went in with the literals' between them; so a
value can't become anything else than a value.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final, TypeAlias

from frazil_functions.errors import RequestError

__all__ = ["Parameters", "bound", "parameter_to_json", "sendable"]

Parameters: TypeAlias = Sequence[object] | Mapping[str, object]
"""By position or by name; JSON values, or objects ``{"type": …, "value": …}`` for what JSON has no type for."""

_INT64: Final = range(-(2**63), 2**63)
_OF_JSON: Final = (str, bool, int, float, type(None))
_DECIMAL_DIGITS: Final = 38
_NUMBERED: Final = re.compile(r"\$([1-9][0-9]{0,3})")


def parameter_to_json(value: object) -> object:
    """Return a Python value as it is sent.

    Raises
    ------
    RequestError
        When there is no literal for values of its type.
    """
    match value:
        case dt.datetime():
            if value.tzinfo is not None:
                raise RequestError("a datetime with a time zone can't be a parameter: SQL's TIMESTAMP has none")
            return {"type": "datetime", "value": value.isoformat()}
        case dt.date():
            return {"type": "date", "value": value.isoformat()}
        case dt.time():
            return {"type": "time", "value": value.isoformat()}
        case Decimal():
            return {"type": "decimal", "value": str(value)}
        case float() if not math.isfinite(value):
            return {"type": "float", "value": str(value)}
        case str() | bool() | int() | float() | None:
            return value
    raise RequestError(f"a value of type {type(value).__name__} can't be a parameter")


def sendable(parameters: Parameters) -> list[object] | dict[str, object]:
    """Return parameters of Python values as they are sent; raises as :func:`parameter_to_json`."""
    if isinstance(parameters, Mapping):
        return {name: parameter_to_json(value) for name, value in parameters.items()}
    return [parameter_to_json(value) for value in parameters]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A placeholder in the text."""

    start: int
    end: int
    """Behind its last character."""

    key: int | str


def bound(text: str, parameters: Parameters) -> str:
    """Return a statement with its parameters in place.

    Raises
    ------
    RequestError
        When placeholders and parameters are not the same, a value has no literal, or the statement can't be surely read.
    """
    from sqlglot.errors import TokenError

    if unsure := next((sign for sign in ("\\", "$$", "`", "#", "\0") if sign in text), None):
        raise RequestError(f"a statement with parameters must not hold {unsure!r}, which SQL dialects read differently")
    try:
        places = _places(text)
    except TokenError as error:
        raise RequestError(f"the statement can't be read: {error}") from error
    values = _values(places, parameters)
    pieces, done = [], 0
    for place in places:
        # In blanks, so that it joins nothing.
        pieces += [text[done : place.start], f" {values[place.key]} "]
        done = place.end
    result = "".join([*pieces, text[done:]])
    _check(text, places, values, result)
    return result


def _tokens(text: str) -> list[tuple[str, str, int, int]]:
    """Return kind, text, and first and last place of each token."""
    from frazil_coordinator.plan.sql.dialect import tokens_of

    return [(token.token_type.name, token.text, token.start, token.end + 1) for token in tokens_of(text)]


def _places(text: str) -> list[_Place]:
    found: list[_Place] = []
    tokens = _tokens(text)
    for (kind, sign, start, end), following in zip(tokens, [*tokens[1:], None], strict=True):
        if kind == "PLACEHOLDER" and sign == "?":
            found.append(_Place(start=start, end=end, key=len(found)))
        elif kind == "VAR" and (numbered := _NUMBERED.fullmatch(sign)) is not None:
            found.append(_Place(start=start, end=end, key=int(numbered[1]) - 1))
        elif kind == "COLON" and following is not None and following[2] == end and _is_name(following):
            found.append(_Place(start=start, end=following[3], key=following[1]))
    return found


def _is_name(token: tuple[str, str, int, int]) -> bool:
    return token[1].isidentifier() and token[0] not in ("STRING", "IDENTIFIER")


def _values(places: Sequence[_Place], parameters: Parameters) -> dict[int | str, str]:
    given: dict[int | str, object] = {}
    given.update(parameters if isinstance(parameters, Mapping) else enumerate(parameters))
    wanted = {place.key for place in places}
    named = {_name(key) for key in wanted ^ given.keys()}
    if named:
        raise RequestError(
            f"placeholders and parameters differ in {', '.join(sorted(named))}: ? and $1 take a list, :name an object"
        )
    return {key: _literal(value, _name(key)) for key, value in given.items()}


def _name(key: int | str) -> str:
    return f":{key}" if isinstance(key, str) else f"${key + 1}"


def _literal(value: object, name: str) -> str:
    """Return the literal of a value, as polars reads it."""
    from sqlglot import exp

    kind, plain = _typed(value, name)
    try:
        match kind:
            case "null":
                return "NULL"
            case "boolean":
                return "TRUE" if plain else "FALSE"
            case "string":
                return exp.Literal.string(_unicode(_text(plain))).sql()
            case "int":
                return _number(_checked_int(plain, name))
            case "float":
                return f"CAST('{float(_text(plain))!r}' AS DOUBLE)"
            case "date":
                return f"DATE '{dt.date.fromisoformat(_text(plain)).isoformat()}'"
            case "datetime":
                return f"CAST('{_without_zone(_text(plain), name)}' AS TIMESTAMP)"
            case "time":
                return f"CAST('{dt.time.fromisoformat(_text(plain)).isoformat()}' AS TIME)"
            case "decimal":
                return _decimal(Decimal(_text(plain)), name)
    except (ValueError, InvalidOperation) as error:
        raise RequestError(f"parameter {name}: {plain!r} is no {kind}: {error}") from error
    raise RequestError(
        f"parameter {name}: type {kind!r} is unknown: null, boolean, int, float, string, date, datetime, time, decimal"
    )


def _typed(value: object, name: str) -> tuple[str, object]:
    match value:
        case None:
            return "null", None
        case bool():
            return "boolean", value
        case int():
            return "int", value
        case float():
            return "float", value
        case str():
            return "string", value
        case {"type": str(kind), "value": plain, **more} if not more and isinstance(plain, _OF_JSON):
            return kind, plain
    raise RequestError(f'parameter {name}: neither a JSON value nor {{"type": …, "value": …}}')


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _unicode(text: str) -> str:
    """Return a text that polars can take: Python's may hold halves of surrogate pairs."""
    text.encode()  # raises UnicodeEncodeError, a ValueError
    return text


def _checked_int(value: object, name: str) -> int:
    number = int(_text(value))
    if number not in _INT64:
        raise RequestError(f"parameter {name}: {number} does not fit 64 bits: send it as a decimal")
    return number


def _number(value: int) -> str:
    return str(value) if value >= 0 else f"({value})"


def _without_zone(text: str, name: str) -> str:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        raise RequestError(f"parameter {name}: a datetime must have no time zone")
    return moment.isoformat()


def _decimal(value: Decimal, name: str) -> str:
    if not value.is_finite() or len(value.as_tuple().digits) > _DECIMAL_DIGITS:
        raise RequestError(f"parameter {name}: {value} is no decimal of at most {_DECIMAL_DIGITS} digits")
    exponent = value.as_tuple().exponent
    scale = max(0, -exponent) if isinstance(exponent, int) else 0
    return f"CAST('{value:f}' AS DECIMAL({_DECIMAL_DIGITS}, {scale}))"


def _check(text: str, places: Sequence[_Place], values: Mapping[int | str, str], result: str) -> None:
    """Refuse what is not the statement's own tokens with literals in the places of placeholders."""
    starts = {place.start: place for place in places}
    expected: list[tuple[str, str]] = []
    skip_to = 0
    for kind, token, start, _ in _tokens(text):
        if start < skip_to:
            continue
        if (place := starts.get(start)) is None:
            expected.append((kind, token))
        else:
            expected += [found[:2] for found in _tokens(values[place.key])]
            skip_to = place.end
    if [found[:2] for found in _tokens(result)] != expected:
        raise RequestError(
            "the statement can't be surely read with its parameters: write it without comments, or without them"
        )
