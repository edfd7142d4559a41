"""Who leads, who follows, and what they get."""

from __future__ import annotations

from frazil_coordinator.reuse.flights import Flights
from frazil_coordinator.reuse.forms import Kept
from frazil_functions.ids import QueryId
from frazil_functions.task import Descriptor

KEY = ("tenant", "digest")


def answer(name: str = "a", inline: bytes | None = None) -> Kept:
    descriptor = Descriptor(key=name, blocks=(), inline=inline)
    return Kept(digest=name, work="w", query=QueryId("q"), kept_unix_s=0.0, descriptor=descriptor)


def test_the_first_leads_and_those_who_follow_get_its_answer_once() -> None:
    flights, got = Flights(), list[Kept | None]()
    assert flights.leads(KEY, "a")
    assert not flights.leads(KEY, "b")
    flights.follow(KEY, "b", got.append)
    flights.follow(KEY, "c", got.append)
    flights.landed(KEY, answer())
    flights.landed(KEY, answer())
    assert got == [answer(), answer()]
    assert flights.recent(KEY) == answer()
    assert flights.leads(("other tenant", "digest"), "b")
    assert flights.recent(("other tenant", "digest")) is None


def test_who_follows_does_it_itself_when_the_last_attempt_failed() -> None:
    flights, got = Flights(), list[Kept | None]()
    assert flights.leads(KEY, "a")
    assert flights.leads(KEY, "a"), "a second attempt beside a slow one"
    flights.follow(KEY, "b", got.append)
    flights.failed(KEY, "a")
    assert got == []
    flights.failed(KEY, "a")
    assert got == [None]
    assert flights.leads(KEY, "b")
    flights.failed(KEY, "a")
    assert not flights.leads(KEY, "c"), "b still runs it"


def test_a_query_that_goes_leads_and_follows_no_more() -> None:
    flights, of_b, of_c = Flights(), list[Kept | None](), list[Kept | None]()
    assert flights.leads(KEY, "a")
    flights.follow(KEY, "b", of_b.append)
    flights.follow(KEY, "c", of_c.append)
    flights.leave(lambda owner: owner == "b")
    flights.leave(lambda owner: owner == "a")
    assert (of_b, of_c) == ([], [None])


def test_an_answer_that_may_not_last_is_given_and_not_remembered() -> None:
    flights, got = Flights(), list[Kept | None]()
    flights.leads(KEY, "a")
    flights.follow(KEY, "b", got.append)
    flights.landed(KEY, answer(), lasting=False)
    assert got == [answer()]
    assert flights.recent(KEY) is None


def test_what_was_not_asked_for_the_longest_time_is_forgotten_first() -> None:
    flights = Flights()
    large = bytes(20 * 1024 * 1024)
    for name in "abc":
        flights.remember(("t", name), answer(name, large))
    assert flights.recent(("t", "a")) is not None
    flights.remember(("t", "d"), answer("d", large))
    assert [flights.recent(("t", name)) is not None for name in "abcd"] == [True, False, True, True]
    flights.forget(("t", "a"))
    assert flights.recent(("t", "a")) is None
