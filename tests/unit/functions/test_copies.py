"""Events that were run are known for as long as a copy would be accepted, and no longer."""

from __future__ import annotations

from frazil_functions.copies import Copies


def test_an_event_is_run_once_until_it_is_too_old_to_be_accepted() -> None:
    copies = Copies(10.0)
    assert copies.note("a", 0.0)
    assert copies.note("b", 5.0)
    assert not copies.note("a", 10.0)
    assert copies.note("a", 10.1)
    assert not copies.note("b", 10.1)


def test_what_is_too_old_takes_no_memory() -> None:
    copies = Copies(10.0)
    for second in range(1000):
        assert copies.note(str(second), float(second))
    assert len(copies._run_at) == 11
