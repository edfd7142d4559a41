"""Events that were run are known for as long as a copy would be accepted, and no longer."""

from __future__ import annotations

from frazil_functions.replays import Replays


def test_an_event_is_run_once_until_it_is_too_old_to_be_accepted() -> None:
    replays = Replays(10.0)
    assert replays.note("a", 0.0)
    assert replays.note("b", 5.0)
    assert not replays.note("a", 10.0)
    assert replays.note("a", 10.1)
    assert not replays.note("b", 10.1)


def test_what_is_too_old_takes_no_memory() -> None:
    replays = Replays(10.0)
    for second in range(1000):
        assert replays.note(str(second), float(second))
    assert len(replays._run_at) == 11
