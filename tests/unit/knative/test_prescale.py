"""Pods asked for before there are requests: what is written on a Revision, and that nothing is left there for ever."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frazil_coordinator.platform.knative.api import REVISIONS, KubeApi
from frazil_coordinator.platform.knative.prescale import LEASE_ANNOTATION, changed_annotations
from frazil_coordinator.platform.knative.scaler import Scaler
from support.kube_api import KubeApi as Double
from support.kube_api import kube_api
from support.kube_world import client_of, function_service_object, min_scale
from support.polling import eventually_async

MIN = "autoscaling.knative.dev/min-scale"
SMALL = "frazil-function-small-00001"
NOW = 1_790_000_000.0


@dataclass
class Revision:
    """The annotations of a Revision, written to as the API would."""

    annotations: dict[str, str] = field(default_factory=lambda: {MIN: "0"})

    def wish(self, holder: str, width: int, at: float, most: int | None = 50) -> bool:
        changes = changed_annotations(
            self.annotations, holder=holder, width=width, now_unix_s=NOW + at, lease_s=60.0, most=most
        )
        for name, value in (changes or {}).items():
            if value is None:
                self.annotations.pop(name, None)
            else:
                self.annotations[name] = value
        return changes is not None


# The pure part


def test_a_wish_sets_min_scale_and_its_end_brings_back_what_was_there() -> None:
    revision = Revision({MIN: "2", "other": "x"})
    assert revision.wish("a", 20, at=0)
    assert revision.annotations[MIN] == "20"
    assert revision.wish("a", 0, at=1)
    assert revision.annotations == {MIN: "2", "other": "x"}


def test_a_revision_without_min_scale_has_none_afterwards() -> None:
    revision = Revision({})
    revision.wish("a", 3, at=0)
    revision.wish("a", 0, at=1)
    assert revision.annotations == {}


def test_no_more_is_wished_than_max_scale_and_no_less_than_was_there() -> None:
    revision = Revision({MIN: "5"})
    revision.wish("a", 500, at=0, most=50)
    assert revision.annotations[MIN] == "50"
    revision.wish("a", 3, at=1)
    assert revision.annotations[MIN] == "5"


def test_a_wish_that_stands_is_written_again_only_when_half_its_time_is_over() -> None:
    revision = Revision()
    revision.wish("a", 7, at=0)
    assert not revision.wish("a", 7, at=29)
    assert revision.wish("a", 7, at=31)
    assert json.loads(revision.annotations[LEASE_ANNOTATION])["leases"] == {"a": [7, NOW + 91]}


def test_what_has_run_out_is_reset_by_whoever_comes_by_and_not_before() -> None:
    revision = Revision()
    revision.wish("dead", 40, at=0)
    assert not revision.wish("b", 0, at=61), "its clock may be behind"
    assert revision.annotations[MIN] == "40"
    assert revision.wish("b", 0, at=76)
    assert revision.annotations == {MIN: "0"}


def test_two_coordinators_wish_beside_each_other_and_the_wider_wish_counts() -> None:
    revision = Revision()
    revision.wish("a", 10, at=0)
    revision.wish("b", 30, at=1)
    assert revision.annotations[MIN] == "30"
    revision.wish("b", 0, at=2)
    assert revision.annotations[MIN] == "10"
    revision.wish("a", 0, at=3)
    assert revision.annotations == {MIN: "0"}


def test_what_somebody_set_by_hand_meanwhile_stays() -> None:
    revision = Revision()
    revision.wish("a", 10, at=0)
    revision.annotations[MIN] = "4"
    revision.wish("a", 0, at=1)
    assert revision.annotations == {MIN: "4"}


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"leases": 1}'])
def test_an_annotation_that_can_not_be_read_is_taken_away(text: str) -> None:
    revision = Revision({MIN: "40", LEASE_ANNOTATION: text})
    revision.wish("a", 0, at=0)
    assert LEASE_ANNOTATION not in revision.annotations


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, int, float]]:
    """Draw what three coordinators wish, one after the other, at times that only grow; some are never heard of again."""
    at, found = 0.0, []
    for _ in range(draw(st.integers(1, 12))):
        at += draw(st.sampled_from([0.0, 1.0, 20.0, 40.0, 90.0]))
        found.append((draw(st.sampled_from("abc")), draw(st.sampled_from([0, 3, 20, 500])), at))
    return found


@given(steps=steps(), base=st.sampled_from([None, "0", "2"]))
def test_whatever_coordinators_wish_and_however_they_end_the_next_one_to_come_by_finds_all_as_it_was(
    steps: list[tuple[str, int, float]], base: str | None
) -> None:
    revision = Revision({} if base is None else {MIN: base})
    before = dict(revision.annotations)
    for holder, width, at in steps:
        revision.wish(holder, width, at=at)
        assert int(revision.annotations.get(MIN, "0")) <= 50
        assert int(revision.annotations.get(MIN, "0")) >= min(width, 50)
        again = dict(revision.annotations)
        assert not revision.wish(holder, width, at=at)
        assert revision.annotations == again
    revision.wish("whoever", 0, at=steps[-1][2] + 76)
    assert revision.annotations == before


# Against the API


@dataclass
class World:
    double: Double
    api: KubeApi
    now: float = NOW

    def scaler(self, holder: str) -> Scaler:
        return Scaler(self.api, holder, lease_s=60.0, hold_s=0.05, unix=lambda: self.now)

    @contextlib.asynccontextmanager
    async def running(self, holder: str) -> AsyncIterator[Scaler]:
        scaler = self.scaler(holder)
        task = asyncio.ensure_future(scaler.run())
        try:
            yield scaler
        finally:
            task.cancel()
            await asyncio.wait({task})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with kube_api() as double, client_of(double, tmp_path) as api:
        double.put(function_service_object(max_scale=50))
        yield World(double, api)


async def scaled(world: World, value: str | None) -> None:
    await eventually_async(lambda: min_scale(world.double, SMALL) == value, f"min-scale is {value}")


async def test_the_autoscaler_is_told_at_dispatch_and_told_again_when_the_stage_has_ended(world: World) -> None:
    async with world.running("a") as scaler:
        scaler.want(SMALL, 45, 50)
        await scaled(world, "45")
        scaler.want(SMALL, 0, 50)
        await scaled(world, "0")
        await eventually_async(lambda: scaler.patches == 2, "both writes are answered")
    assert LEASE_ANNOTATION not in world.double.named("revisions", SMALL)["metadata"]["annotations"]


async def test_a_barrier_between_two_stages_writes_nothing(world: World) -> None:
    async with world.running("a") as scaler:
        scaler.want(SMALL, 20, 50)
        await scaled(world, "20")
        scaler.want(SMALL, 0, 50)
        await asyncio.sleep(0)
        scaler.want(SMALL, 30, 50)
        await scaled(world, "30")
        await eventually_async(lambda: scaler.patches == 2, "both writes are answered")


async def test_a_coordinator_that_ends_in_order_takes_its_wish_back(world: World) -> None:
    async with world.running("a") as scaler:
        scaler.want(SMALL, 20, 50)
        await scaled(world, "20")
    assert min_scale(world.double, SMALL) == "0"


async def test_what_a_killed_coordinator_asked_for_is_reset_by_the_next_one_when_its_lease_is_over(world: World) -> None:
    killed = world.scaler("killed")
    killed.want(SMALL, 40, 50)
    await killed._write_all()  # and nothing more is heard of it
    assert min_scale(world.double, SMALL) == "40"
    restarted = world.scaler("restarted")
    world.now += 60
    assert await restarted.sweep() == ()
    assert min_scale(world.double, SMALL) == "40", "it may live"
    world.now += 16
    assert await restarted.sweep() == (SMALL,)
    assert min_scale(world.double, SMALL) == "0"
    assert await restarted.sweep() == ()


async def test_two_coordinators_that_write_at_once_both_get_through(world: World) -> None:
    one, two = world.scaler("one"), world.scaler("two")
    one.want(SMALL, 10, 50)
    two.want(SMALL, 20, 50)
    await asyncio.gather(one._write_all(), two._write_all())
    leases = json.loads(world.double.named("revisions", SMALL)["metadata"]["annotations"][LEASE_ANNOTATION])["leases"]
    assert {who: width for who, (width, _) in leases.items()} == {"one": 10, "two": 20}
    assert min_scale(world.double, SMALL) == "20"


async def test_a_wish_that_is_repeated_while_all_are_taken_back_is_not_followed(world: World) -> None:
    scaler = world.scaler("a")
    scaler.want(SMALL, 45, 50)
    await scaler._write_all()
    taking_back = asyncio.ensure_future(scaler._take_back())
    await asyncio.sleep(0)  # it has begun, and asks for the Revision
    scaler.want(SMALL, 46, 50)
    await taking_back
    assert LEASE_ANNOTATION not in world.double.named("revisions", SMALL)["metadata"]["annotations"]
    assert min_scale(world.double, SMALL) == "0"


async def test_a_write_that_is_under_way_at_the_end_is_taken_back_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, begun, go_on, written = world.api.patch, threading.Event(), threading.Event(), threading.Event()

    def held_up(*arguments: Any, **more: Any) -> Any:
        begun.set()
        go_on.wait(10)
        try:
            return patch(*arguments, **more)
        finally:
            written.set()

    monkeypatch.setattr(world.api, "patch", held_up)
    scaler = world.scaler("a")
    running = asyncio.ensure_future(scaler.run())
    scaler.want(SMALL, 45, 50)
    await eventually_async(begun.is_set, "the write is under way")
    running.cancel()
    await asyncio.wait({running}, timeout=0.1)  # time enough to take back what is not written yet
    go_on.set()
    await asyncio.wait({running})
    await eventually_async(written.is_set, "the write has ended")
    assert LEASE_ANNOTATION not in world.double.named("revisions", SMALL)["metadata"]["annotations"]
    assert min_scale(world.double, SMALL) == "0"


async def test_a_revision_that_is_gone_is_forgotten_and_a_missing_right_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    scaler = world.scaler("a")
    scaler.want("gone-00001", 3, None)
    await scaler._write_all()
    assert scaler.patches == 0
    world.double.rights.take("system:serviceaccount:frazil:frazil-coordinator", "patch", REVISIONS.plural)
    scaler.want(SMALL, 3, 50)
    await scaler._write_all()
    await scaler._write_all()
    said = [record for record in caplog.records if record.message == "pre-scaling is off"]
    assert len(said) == 1
    assert "the verb patch on revisions" in said[0].error  # type: ignore[attr-defined]  # a field of the log line
