"""Values for placeholders: what they are for polars, and that they can't become anything else."""

from __future__ import annotations

import math
from datetime import date, datetime, time
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_coordinator.catalog.parameters import Parameters, bound, sendable
from frazil_coordinator.catalog.plans import Statement
from frazil_functions.errors import RequestError

MOMENT = datetime.fromisoformat("2026-11-30T08:00:00.000005")
VALUES = [
    (None, None),
    (True, True),
    (0, 0),
    (-7, -7),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (1.5, 1.5),
    (-1e300, -1e300),
    (math.inf, math.inf),
    ("", ""),
    ('it\'s -- /* ? $1 :a */ "x" ; DROP TABLE t', 'it\'s -- /* ? $1 :a */ "x" ; DROP TABLE t'),
    ("back\\slash' OR 1=1", "back\\slash' OR 1=1"),
    (date(2026, 11, 30), date(2026, 11, 30)),
    (MOMENT, MOMENT),
    (time(8, 30), time(8, 30)),
    (Decimal("-1.25"), Decimal("-1.25")),
]


def answer(text: str, parameters: Parameters) -> pl.DataFrame:
    frame = pl.LazyFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    return pl.SQLContext(t=frame).execute(bound(text, sendable(parameters)), eager=True)


@pytest.mark.parametrize(("value", "seen"), VALUES, ids=[repr(value) for value, _ in VALUES])
@pytest.mark.parametrize("place", ["?", "$1", ":v"])
def test_a_value_is_itself_for_polars(value: object, seen: object, place: str) -> None:
    parameters = {"v": value} if place == ":v" else [value]
    assert answer(f"SELECT {place} AS v", parameters).rows() == [(seen,)]


def test_floats_stay_floats_and_integers_may_limit() -> None:
    frame = answer("SELECT a, $2 AS f FROM t WHERE b <> $1 ORDER BY a LIMIT $3", ["x", 1.5, 1])
    assert frame.rows() == [(2, 1.5)]
    assert frame.schema["f"] == pl.Float64


@given(st.text(alphabet=st.characters(exclude_characters="\0", codec="utf-8"), max_size=30))
def test_no_text_leaves_its_literal(text: str) -> None:
    assert answer("SELECT ? AS v, 'k' AS k", [text]).rows() == [(text, "k")]


def test_what_looks_like_a_placeholder_in_texts_names_comments_and_casts_is_none() -> None:
    text = "SELECT '?' AS q, ':v $1' AS r, a::BIGINT AS \"?\" -- ? :v $1\n FROM t WHERE a = ?"
    assert answer(text, [2]).rows() == [("?", ":v $1", 2)]


@pytest.mark.parametrize(
    ("text", "parameters", "words"),
    [
        ("SELECT ?", [], r"differ in \$1"),
        ("SELECT 1", [1], r"differ in \$1"),
        ("SELECT $2", [1, 2], r"differ in \$1"),
        ("SELECT :a", {"b": 1}, ":a, :b"),
        ("SELECT :a", [1], ":a"),
        ("SELECT ?, '", [1], "can't be read"),
        ("SELECT ?, $$x$$", [1], "must not hold"),
        ("SELECT ?, 'a\\'", [1], "must not hold"),
        ("SELECT ?", [2**63], "64 bits"),
        ("SELECT ?", [[1]], "neither a JSON value"),
        ("SELECT ?", ["half a pair: \ud800"], "is no string"),
        ("SELECT ?", [{"type": "date", "value": "yesterday"}], "is no date"),
        ("SELECT ?", [{"type": "date", "value": "2026-01-01' OR 1=1 --"}], "is no date"),
        ("SELECT ?", [{"type": "int", "value": "1); DROP"}], "is no int"),
        ("SELECT ?", [{"type": "decimal", "value": "1" * 39}], "38 digits"),
        ("SELECT ?", [{"type": "datetime", "value": "2026-01-01T00:00:00Z"}], "no time zone"),
        ("SELECT ?", [{"type": "identifier", "value": "t"}], "unknown"),
        ("SELECT ?", [{"type": "int", "value": 1, "more": 2}], "neither a JSON value"),
    ],
)
def test_what_can_not_be_bound_is_refused(text: str, parameters: Parameters, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        bound(text, parameters)


def test_a_value_without_a_literal_is_refused_where_it_is_given() -> None:
    with pytest.raises(RequestError, match="list can't be a parameter"):
        sendable([[1]])


def test_a_statement_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(RequestError, match="must be Unicode"):
        Statement.of("SELECT '\ud800'")
