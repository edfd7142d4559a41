"""The card of a query in a notebook: whole HTML, nothing of strangers in it, and no waiting for who does not answer."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import polars as pl
import pytest

import frazil
from frazil._card import card, line
from frazil_coordinator.status import QueryState, QueryStatus, StageProgress
from frazil_functions.errors import RequestError, WireError
from frazil_functions.ids import QueryId, StageId
from support.sessions import FakeSession

LF = pl.LazyFrame({"a": [1, 2, 3]})
_VOID = frozenset({"br", "hr", "img", "meta"})


class Parsed(HTMLParser):
    """Elements and text of a document whose elements are all closed, in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def status(state: QueryState = QueryState.RUNNING, **known: object) -> QueryStatus:
    stages = (
        StageProgress(stage=StageId(0), kind="scan", tasks=4, done=3, running=1, attempts=5, rows=1234, bytes=5000),
        StageProgress(stage=StageId(1), kind="group_by", tasks=2),
    )
    given: dict[str, object] = {"progress": stages, "submitted_unix_s": 100.0, **known}
    return QueryStatus(id=QueryId("q1"), state=state, **given)  # type: ignore[arg-type]  # of the fields' own types


PROFILE: dict[str, object] = {
    "query": "q1",
    "bytes_scanned": 12_345_678,
    "dollars": 0.0000321,
    "stages": [
        {
            "stage": 0,
            "seconds": 2.5,
            "speculated": 1,
            "fallbacks": ["no distributed form of <map>"],
            "failed_attempts": [{"kind": "function_lost"}, {"kind": "not_needed"}],
        },
        {"stage": 1, "seconds": 0.0, "fallbacks": []},
    ],
}


def test_a_card_shows_what_is_known() -> None:
    text = Parsed(card(status(labels=("nightly",)), PROFILE, told_unix_s=112.34)).text
    assert text.startswith("Query q1 running nightly")
    for shown in ("12.3 s", "3 of 6 tasks", "5, 1 failed, 1 speculative", "12.3 MB", "$0.000032", "3/4, 1 running", "1,234"):
        assert shown in text
    assert "5 (1 failed) 1,234 5.0 kB 2.5" in text
    assert "stage 0: no distributed form of <map>" in text


def test_the_bar_of_a_stage_is_as_long_as_its_tasks_are_far() -> None:
    elements = Parsed(card(status(), None, told_unix_s=101.0)).elements
    widths = [
        (attributes["class"], attributes["style"])
        for name, attributes in elements
        if name == "span" and "style" in attributes
    ]
    assert widths == [
        ("fq-bar-done", "width:75.0%"),
        ("fq-bar-running", "width:25.0%"),
        ("fq-bar-done", "width:0.0%"),
        ("fq-bar-running", "width:0.0%"),
    ]


def test_no_style_of_a_bar_is_one_of_a_state() -> None:
    for state in QueryState:
        for rule in re.findall(rf"\.fq-{state.value}[,{{][^}}]*}}", card(status(state), None, told_unix_s=101.0)):
            assert "background" not in rule


def test_a_query_that_is_not_planned_has_no_tasks_yet() -> None:
    planned = status(QueryState.PLANNING, progress=(), waits_for="2 queries before it")
    assert Parsed(card(planned, {}, told_unix_s=101.0)).text == "Query q1 planning Waits for 2 queries before it time 1.0 s"
    assert line(planned) == "<frazil.Query q1 planning, waits for 2 queries before it>"


def test_an_ended_query_shows_its_result_and_how_long_it_took() -> None:
    text = Parsed(
        card(status(QueryState.SUCCEEDED, ended_unix_s=103.0, rows=1_000, bytes=2_000), PROFILE, told_unix_s=900.0)
    ).text
    assert "1,000 rows (2.0 kB)" in text
    assert "3.0 s" in text
    assert "800" not in text


def test_without_a_profile_the_card_shows_what_the_status_has() -> None:
    text = Parsed(card(status(fallbacks=("a reason",)), None, told_unix_s=101.0)).text
    assert "5, 1 retried" in text
    assert "a reason" in text
    assert "cost" not in text


def test_reasons_that_the_stages_tell_are_not_told_twice() -> None:
    text = Parsed(card(status(fallbacks=("no distributed form of <map>", "another")), PROFILE, told_unix_s=101.0)).text
    assert text.count("no distributed form") == 1
    assert "another" in text


def test_a_failed_query_shows_the_class_of_its_error_and_where_it_was() -> None:
    error = WireError(
        kind="query", message="not found: x\nsecond line", where={"stage": "1"}, exception="ColumnNotFoundError"
    )
    failed = status(QueryState.FAILED, ended_unix_s=101.0, error=error)
    html = card(failed, None, told_unix_s=101.0)
    assert "ColumnNotFoundError: not found: x second line (stage 1)" in Parsed(html).text
    assert line(failed) == "<frazil.Query q1 failed, 3 of 6 tasks, 1.0 s, ColumnNotFoundError: not found: x>"


@pytest.mark.parametrize("where", ["id", "label", "kind", "error", "fallback", "waits_for", "silent", "result_of"])
def test_what_strangers_wrote_is_text(where: str) -> None:
    evil = "</td></style><script>alert(1)</script><img src=x onerror='1'>\""
    stage = StageProgress(stage=StageId(0), kind=evil if where == "kind" else "scan", tasks=1)
    shown = QueryStatus(
        id=QueryId(evil if where == "id" else "q1"),
        state=QueryState.FAILED if where == "error" else QueryState.QUEUED,
        submitted_unix_s=1.0,
        labels=(evil,) if where == "label" else (),
        error=WireError(kind="query", message=evil) if where == "error" else None,
        progress=(stage,),
        fallbacks=(evil,) if where == "fallback" else (),
        waits_for=evil if where == "waits_for" else "",
    )
    profile: dict[str, object] = {"result_of": evil} if where == "result_of" else {}
    found = Parsed(card(shown, profile, told_unix_s=1.0, silent=evil if where == "silent" else ""))
    assert {name for name, _ in found.elements} <= {
        "div", "style", "p", "b", "code", "span", "table", "tr", "th", "td", "pre", "ul", "li",
    }  # fmt: skip
    assert "<script>alert(1)</script><img src=x onerror='1'>\"" in found.text


def test_a_card_has_no_script_and_asks_for_nothing_from_elsewhere() -> None:
    html = card(status(), PROFILE, told_unix_s=101.0)
    assert re.search(r"url\(|https?:|@import|<script|src=|href=|\son\w+=", html) is None


def test_a_card_is_light_and_dark_by_the_system_or_the_notebook() -> None:
    html = card(status(), None, told_unix_s=101.0)
    assert "color-scheme:light dark" in html
    assert '[data-jp-theme-light="false"] .frazil-query' in html
    for declaration in re.findall(r"([a-z-]+):light-dark\(", html):  # a browser that knows it not reads the one before
        assert len(re.findall(rf"\b{declaration}:#\w+;{declaration}:light-dark", html)) == len(
            re.findall(rf"\b{declaration}:light-dark", html)
        )


def test_a_card_of_a_thousand_stages_and_long_texts_stays_small() -> None:
    stages = tuple(StageProgress(stage=StageId(number), kind="scan", tasks=1) for number in range(1000))
    shown = status(progress=stages, fallbacks=("why " * 10_000,) * 1000)
    html = card(shown, None, told_unix_s=101.0)
    assert len(html) < 100_000
    assert "… and 940 more stages" in Parsed(html).text
    assert "… and 980 more" in Parsed(html).text


def test_a_profile_of_an_unknown_form_costs_its_figures_and_not_the_card() -> None:
    text = Parsed(card(status(), {"stages": "none"}, told_unix_s=101.0)).text
    assert "not told in a form that is known" in text
    assert "3/4" in text


def test_a_query_asks_for_its_card_until_it_has_ended() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(LF)
    assert "running" in Parsed(query._repr_html_()).text
    query.wait()
    for _ in range(3):
        assert "Query q0 succeeded" in Parsed(query._repr_html_()).text
    assert session.calls.count("glance q0") == 2, "once while it ran, and once when it had ended"


def test_the_profile_of_a_card_is_that_of_the_ended_query() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(LF)
    query._repr_html_()
    query.wait()
    session.profiles["q0"] = {"query": "q0", "bytes_scanned": 7_000, "stages": []}
    assert "7.0 kB" in Parsed(query._repr_html_()).text


def test_a_coordinator_that_gives_no_answer_is_said_in_the_card() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(LF)
    session.silent = RequestError("this engine is closed")
    text = Parsed(query._repr_html_()).text
    assert "can't be asked now" in text
    assert "this engine is closed" in text
    assert "0/2" in text


def test_a_card_warns_of_no_fallback_because_it_shows_it() -> None:
    query = frazil.Engine(FakeSession(fallbacks=("a reason",))).submit(LF)
    assert "a reason" in Parsed(query._repr_html_()).text


def test_a_line_asks_nobody() -> None:
    session = FakeSession()
    query = frazil.Engine(session).submit(LF)
    session.calls.clear()
    assert repr(query) == "<frazil.Query q0 running, 0 of 2 tasks>"
    assert session.calls == []
