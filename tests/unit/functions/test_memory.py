"""The memory watch: what it measures, whom it tells, and when it ends the process."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from frazil_functions.errors import OutOfMemoryError
from frazil_functions.memory import EXIT_OUT_OF_MEMORY, MemoryWatch, resident_bytes

MIB = 1024 * 1024


class Recorder:
    """Keeps what the watch did."""

    def __init__(self) -> None:
        self.told: list[OutOfMemoryError] = []
        self.ended: list[int] = []
        self.heard = threading.Event()

    def tell(self, error: OutOfMemoryError) -> None:
        self.told.append(error)
        self.heard.set()


def watch(recorder: Recorder, measure: Callable[[], int], *, limit_bytes: int | None = 100 * MIB) -> MemoryWatch:
    return MemoryWatch(
        limit_bytes, recorder.tell, end_process=recorder.ended.append, measure=measure, interval_s=0.001, warning_s=0.0
    )


def test_resident_memory_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = bytearray(b"x") * (64 * MIB)
    assert resident_bytes() - before > 48 * MIB
    assert len(held) == 64 * MIB


@pytest.mark.parametrize(
    ("used_mib", "told", "ended"),
    [(100, 0, []), (101, 1, []), (114, 1, []), (116, 1, [EXIT_OUT_OF_MEMORY])],
)
def test_the_limit_fails_the_task_and_far_above_it_the_process_ends(used_mib: int, told: int, ended: list[int]) -> None:
    recorder = Recorder()
    watch(recorder, lambda: used_mib * MIB).look()
    assert len(recorder.told) == told
    assert recorder.ended == ended


def test_the_task_is_told_once_and_what_to_do() -> None:
    recorder = Recorder()
    watched = watch(recorder, lambda: 110 * MIB)
    watched.look()
    watched.look()
    (error,) = recorder.told
    assert "110 MiB" in str(error)
    assert "100 MiB are allowed" in str(error)


def test_the_process_does_not_end_before_the_task_could_say_why() -> None:
    recorder = Recorder()
    used = 500 * MIB
    watched = MemoryWatch(
        100 * MIB, recorder.tell, end_process=recorder.ended.append, measure=lambda: used, warning_s=3600.0
    )
    watched.look()
    watched.look()
    assert (len(recorder.told), recorder.ended) == (1, [])


def test_without_a_limit_only_the_peak_is_kept() -> None:
    recorder = Recorder()
    used = [3 * MIB, 9 * MIB, 5 * MIB]
    watched = watch(recorder, used.pop, limit_bytes=None)
    for _ in range(3):
        watched.look()
    assert watched.peak_bytes == 9 * MIB
    assert not recorder.told


def test_it_looks_while_the_task_runs_and_stops_with_it() -> None:
    recorder = Recorder()
    used = [50 * MIB]
    with watch(recorder, lambda: used[0]):
        used[0] = 105 * MIB
        assert recorder.heard.wait(timeout=10)
    assert not any(thread.name == "frazil-memory" for thread in threading.enumerate())


def test_a_task_that_has_ended_is_measured_but_not_judged() -> None:
    recorder = Recorder()
    used = [50 * MIB]
    watched = MemoryWatch(
        100 * MIB, recorder.tell, end_process=recorder.ended.append, measure=lambda: used[0], interval_s=3600
    )
    with watched:
        used[0] = 500 * MIB
    assert watched.peak_bytes == 500 * MIB
    assert (recorder.told, recorder.ended) == ([], [])
