"""The shared cap on attempts in flight."""

from __future__ import annotations

from frazil_coordinator.schedule.slots import Claim, Slots


def test_slots_are_granted_one_by_one_up_to_the_limit_and_again_when_released() -> None:
    granted: list[int] = []
    slots = Slots(2)
    share = slots.share(lambda: granted.append(1))
    share.want(3)
    assert (len(granted), slots.taken) == (2, 2)
    share.use()
    share.release()
    assert (len(granted), slots.taken) == (3, 2)


def test_a_released_slot_goes_to_the_query_that_has_the_fewest() -> None:
    order: list[str] = []
    slots = Slots(4)
    first = slots.share(lambda: order.append("first"))
    second = slots.share(lambda: order.append("second"))
    first.want(10)
    second.want(10)
    for _ in range(4):
        first.use()
    first.release()
    first.release()
    assert order == ["first"] * 4 + ["second"] * 2


def test_queries_that_have_as_few_take_turns() -> None:
    order: list[str] = []
    slots = Slots(1)
    shares = {name: slots.share(lambda name=name: order.append(name)) for name in "abc"}  # type: ignore[misc]  # bound now
    for share in shares.values():
        share.want(2)
    for _ in range(6):
        holder = shares[order[-1]]
        holder.use()
        holder.release()
    assert order == list("abcabc")


def test_asking_again_replaces_what_was_asked_and_counts_what_was_granted() -> None:
    granted: list[int] = []
    slots = Slots(10)
    share = slots.share(lambda: granted.append(1))
    share.want(3)
    share.want(4)
    assert len(granted) == 4
    share.use()
    share.want(3)
    assert len(granted) == 4
    share.want(0)
    share.refuse()
    assert slots.taken == 3


def test_a_closed_share_gives_back_everything_and_later_calls_do_nothing() -> None:
    other_got: list[int] = []
    slots = Slots(2)
    share = slots.share(lambda: None)
    other = slots.share(lambda: other_got.append(1))
    share.want(5)
    other.want(1)
    share.use()
    share.close()
    assert other_got == [1]
    share.release()
    share.want(5)
    assert slots.taken == 1


def test_the_limit_can_be_raised_and_lowered() -> None:
    granted: list[int] = []
    slots = Slots(1)
    share = slots.share(lambda: granted.append(1))
    share.want(5)
    slots.resize(3)
    assert (len(granted), slots.limit) == (3, 3)
    slots.resize(1)
    for _ in range(2):
        share.use()
        share.release()
    assert (len(granted), slots.taken) == (3, 1)


def test_a_callback_may_ask_for_more() -> None:
    granted: list[int] = []
    slots = Slots(3)

    def on_grant() -> None:
        granted.append(1)
        share.use()
        share.want(1)

    share = slots.share(on_grant)
    share.want(1)
    assert len(granted) == 3


def test_the_demand_is_what_queries_could_run_now_within_the_limit_and_that_of_their_tenants() -> None:
    slots, told = Slots(10), list[int]()
    slots.on_demand = told.append
    one = slots.share(lambda: None, Claim(tenant="a", max_tasks=3))
    two = slots.share(lambda: None, Claim(tenant="b"))
    one.want(500)
    assert (slots.demand, slots.wanted) == (3, 497)
    two.want(4)
    assert slots.demand == 7
    two.want(500)
    assert slots.demand == 10
    slots.resize(6)
    assert (told[-1], slots.demand) == (6, 6)
    two.close()
    assert slots.demand == 3
    one.close()
    assert (told[-1], slots.demand, slots.wanted) == (0, 0, 0)
