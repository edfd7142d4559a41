"""The state machine of a query against a model: random graphs, and anything that can happen to them."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from frazil_coordinator.schedule.messages import (
    AttemptAnswered,
    AttemptDivided,
    AttemptFailed,
    AttemptHeartbeat,
    AttemptRef,
    AttemptStarted,
    AttemptSucceeded,
    BindFailed,
    CancelRequested,
    Discard,
    Launch,
    Lost,
    Restart,
    ReturnSlot,
    SlotGranted,
    StageBound,
    TimerFired,
)
from frazil_functions.errors import (
    BlockError,
    FrazilError,
    FunctionLostError,
    InternalError,
    OutOfMemoryError,
    QueryError,
    StorageError,
)
from frazil_functions.ids import StageId, TaskIndex
from support.query_elsewhere import SharingWorld
from support.query_world import LIMITS, done


class QueryMachine(SharingWorld):
    """What a driver, a platform and a pool of slots may do to the state of one query."""

    # What may happen

    def running(self) -> bool:
        return self.finish is None

    @precondition(lambda self: self.to_bind)
    @rule(data=st.data())
    def bind(self, data: st.DataObject) -> None:
        stage = data.draw(st.sampled_from(self.to_bind))
        self.to_bind.remove(stage)
        tasks = self.tasks[stage] = data.draw(st.sampled_from([self.stages[stage].tasks, 1, 0]))
        self.bound[stage] = [TaskIndex(task) for task in range(tasks)]
        elsewhere = self.found_elsewhere(data, stage, self.bound[stage])
        self.send(StageBound(stage=stage, tasks=tasks, first_attempt=self.first[stage], elsewhere=elsewhere))

    @precondition(lambda self: self.to_bind and self.now > 20)
    @rule()
    def bind_fails(self) -> None:
        error = InternalError("no")
        self.send(BindFailed(stage=self.to_bind[-1], error=error))
        assert self.finish is not None
        assert self.finish.error is error

    @precondition(lambda self: self.wanted > 0 and len(self.live) < self.limit)
    @rule()
    def grant(self) -> None:
        (first, *_) = self.send(SlotGranted())
        assert isinstance(first, Launch), "wanted a slot, and did not use it"

    @precondition(lambda self: self.wanted == 0 and self.spare > 0 and len(self.live) < self.limit)
    @rule()
    def grant_spare(self) -> None:
        (first, *_) = self.send(SlotGranted())
        assert isinstance(first, Launch), "wanted a slot, and did not use it"
        assert first.speculative

    @precondition(lambda self: self.wanted == 0 and self.spare == 0)
    @rule()
    def grant_unwanted(self) -> None:
        instructions = self.send(SlotGranted())
        assert instructions == ([] if self.finish is not None else [ReturnSlot()])

    @rule(limit=st.integers(0, 5))
    def change_slots(self, limit: int) -> None:
        self.limit = limit

    @precondition(lambda self: self.live)
    @rule(data=st.data(), begins=st.booleans())
    def beat(self, data: st.DataObject, begins: bool) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.silent_since[ref] = self.now
        self.begun.setdefault(ref, self.now)
        self.send(AttemptStarted(ref=ref) if begins else AttemptHeartbeat(ref=ref))

    @precondition(lambda self: self.finish is None and (self.to_bind or self.live))
    @rule(data=st.data(), quick=st.floats(0, 1), doubles=st.booleans())
    def one_lags(self, data: st.DataObject, quick: float, doubles: bool) -> None:
        """Let all tasks of a stage but one be done, and wait until that one is slow."""
        if self.to_bind:
            self.bind_as_planned()
        self.limit = 5
        if self.wanted > 0 and not self.live:
            self.grant()
        if self.finish is not None or not self.live:
            return
        slow = data.draw(st.sampled_from(self.live))
        self.beat_all()
        for _ in range(20):
            if self.finish is not None or self.is_all_but(slow):
                break
            ends = [ref for ref in self.live if ref.task != slow.task or ref.stage != slow.stage]
            if ends:
                self.time_passes(quick)
                self.beat_all()
                self.answer(ends[0], 0)
            elif self.wanted > 0:
                self.grant()
                self.beat_all()
        for _ in range(10):
            if slow not in self.live or self.spare > 0 or self.timer is None:
                break
            self.now = max(self.now, self.timer)
            self.timer = None
            self.beat_all()
            self.send(TimerFired())
        if doubles and self.spare > 0 and self.wanted == 0:
            self.grant_spare()

    def is_all_but(self, slow: AttemptRef) -> bool:
        return all((slow.stage, task) in self.committed for task in self.bound[slow.stage] if task != slow.task)

    def bind_as_planned(self) -> None:
        stage = self.to_bind.pop()
        self.tasks[stage] = self.stages[stage].tasks
        self.bound[stage] = [TaskIndex(task) for task in range(self.tasks[stage])]
        self.send(StageBound(stage=stage, tasks=self.tasks[stage], first_attempt=self.first[stage]))

    def beat_all(self) -> None:
        for ref in self.live if self.finish is None else ():
            self.silent_since[ref] = self.now
            self.begun.setdefault(ref, self.now)
            self.send(AttemptHeartbeat(ref=ref))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), execution=st.sampled_from([0, 0, 0, 1]))
    def succeed(self, data: st.DataObject, execution: int) -> None:
        self.answer(data.draw(st.sampled_from(self.live)), execution)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def answer_that_is_not_durable_yet(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.answered.add(ref)
        self.send(AttemptAnswered(ref=ref))

    @precondition(lambda self: self.past)
    @rule(data=st.data(), execution=st.integers(0, 1))
    def succeed_late_or_twice(self, data: st.DataObject, execution: int) -> None:
        self.answer(data.draw(st.sampled_from(self.past)), execution)

    def given_up(self) -> list[AttemptRef]:
        over = self.committed | dict.fromkeys(self.divided)
        return [ref for ref in self.past if (ref.stage, ref.task) not in over and ref.attempt >= self.first[ref.stage]]

    @precondition(lambda self: self.given_up())
    @rule(data=st.data())
    def succeed_after_all(self, data: st.DataObject) -> None:
        rivals = [ref for ref in self.given_up() if any((one.stage, one.task) == (ref.stage, ref.task) for one in self.live)]
        self.answer(data.draw(st.sampled_from(rivals or self.given_up())), 0)

    @precondition(lambda self: self.given_up() and self.timer is not None and self.limit > len(self.live))
    @rule()
    def wait_for_retries(self) -> None:
        for _ in range(10):
            if self.finish is not None or self.timer is None or self.wanted > 0:
                break
            self.fire(0.0)
        if self.wanted > 0:
            self.grant()

    def answer(self, ref: AttemptRef, execution: int) -> None:
        """Attempt `ref` answers; another `execution` of the same event wrote another object."""
        task = (ref.stage, ref.task)
        descriptor = done(ref, execution)
        before = self.committed.get(task)
        if ref in self.live:
            self.live.remove(ref)
            self.past.append(ref)
        if self.finish is not None:
            self.send(AttemptSucceeded(ref=ref, descriptor=descriptor))
            return
        unused = before is not None or task in self.divided or ref.attempt < self.first[ref.stage]
        lost, behind = None, self.behind(ref.stage)
        if not unused:
            self.committed[task] = descriptor.key
            lost = self.lost.pop(task, None)
        instructions = self.send(AttemptSucceeded(ref=ref, descriptor=descriptor))
        anew = {one.stage for one in instructions if isinstance(one, Restart)}
        assert anew == (behind if lost is not None and lost[-1] != str(execution) else set())
        discarded = [one for one in instructions if isinstance(one, Discard)]
        assert bool(discarded) == (unused and before != descriptor.key)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), error=st.sampled_from([StorageError("s"), BlockError("b"), FunctionLostError("l")]))
    def fail(self, data: st.DataObject, error: FrazilError) -> None:
        ref = data.draw(st.sampled_from(self.live))
        task = (ref.stage, ref.task)
        self.live.remove(ref)
        self.past.append(ref)
        self.failures.setdefault(task, []).append(error)
        self.send(AttemptFailed(ref=ref, error=error))
        self.check_failures(task)

    def readable(self) -> list[tuple[AttemptRef, str]]:
        """Attempts that run, and the objects that they read."""
        return [
            (ref, key)
            for ref in self.live
            for (stage, _), key in sorted(self.committed.items())
            if stage in self.stages[ref.stage].producers and key is not None
        ]

    @precondition(lambda self: self.readable())
    @rule(data=st.data())
    def fail_to_read(self, data: st.DataObject) -> None:
        self.cannot_read(*data.draw(st.sampled_from(self.readable())))

    @precondition(lambda self: self.finish is None and any(stage.producers for stage in self.stages))
    @rule(data=st.data(), after=st.integers(0, 3), other_bytes=st.booleans())
    def lose_what_runs_read(self, data: st.DataObject, after: int, other_bytes: bool) -> None:
        """Go on until something is read, and for some answers more; then lose what is read, and let its task run again."""
        self.limit = 5
        for _ in range(60):
            if self.finish is not None or (self.readable() and after == 0):
                break
            after -= bool(self.readable()) and bool(self.live)
            self.go_on()
        if self.finish is not None or not self.readable():
            return
        ref, key = data.draw(st.sampled_from(self.readable()))
        writer = next(task for task, committed in self.committed.items() if committed == key)
        for _ in range(20):
            for one in [one for one in self.live if one[:2] == ref[:2]]:
                if one in self.live and key in self.committed.values():
                    self.cannot_read(one, key)
            if self.finish is not None or key not in self.committed.values():
                break
            self.go_on(but=ref)
        for _ in range(20):
            if self.finish is not None or writer in self.committed:
                return
            again = [one for one in self.live if one[:2] == writer]
            if again:
                self.answer(again[0], int(other_bytes))
            else:
                self.go_on()

    def go_on(self, but: AttemptRef | None = None) -> None:
        """Let the next thing happen that has to; no answer of the task `but`."""
        others = [ref for ref in self.live if but is None or ref[:2] != but[:2]]
        if self.to_bind:
            self.bind_as_planned()
        elif self.wanted > 0 and len(self.live) < self.limit:
            self.grant()
        elif others:
            self.answer(others[0], 0)
        elif self.timer is not None:
            self.fire(0.0)

    def cannot_read(self, ref: AttemptRef, key: str) -> None:
        error = BlockError("gone")
        error.where["object"] = key
        writer = next(task for task, committed in self.committed.items() if committed == key)
        losses = self.losses[writer]
        seen = (ref.stage, ref.task, key) in self.unread
        self.unread.add((ref.stage, ref.task, key))
        self.live.remove(ref)
        self.past.append(ref)
        self.failures.setdefault((ref.stage, ref.task), []).append(error)
        instructions = self.send(AttemptFailed(ref=ref, error=error))
        lost = [one for one in instructions if isinstance(one, Lost)]
        assert len(lost) == (seen and losses < LIMITS.max_attempts)
        assert (self.finish is not None) == (seen and losses == LIMITS.max_attempts)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), parts=st.integers(1, 3))
    def divide(self, data: st.DataObject, parts: int) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.live.remove(ref)
        self.past.append(ref)
        self.divided.add((ref.stage, ref.task))
        error = OutOfMemoryError("m")
        first, order = self.tasks[ref.stage], self.bound[ref.stage]
        self.tasks[ref.stage] += parts
        new = [TaskIndex(first + part) for part in range(parts)]
        place = order.index(ref.task)
        order[place : place + 1] = new
        self.inherited |= dict.fromkeys(((ref.stage, task) for task in new), self.history((ref.stage, ref.task), error))
        self.send(AttemptDivided(ref=ref, error=error, parts=parts))

    def history(self, task: tuple[StageId, TaskIndex], *errors: FrazilError) -> list[FrazilError]:
        return [*self.inherited.get(task, []), *self.failures.get(task, []), *errors]

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def divide_late(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.past))
        assert not self.state.is_live(ref)
        assert self.send(AttemptDivided(ref=ref, error=OutOfMemoryError("late"), parts=2)) == []

    @precondition(lambda self: self.live and self.now > 0)
    @rule(
        data=st.data(),
        errors=st.sampled_from([[StorageError("s")], [FunctionLostError("l")], [StorageError("s"), FunctionLostError("l")]]),
    )
    def fail_again_and_again(self, data: st.DataObject, errors: list[FrazilError]) -> None:
        task = data.draw(st.sampled_from(sorted({(ref.stage, ref.task) for ref in self.live})))
        for number in range(50):
            for ref in [one for one in self.live if (one.stage, one.task) == task]:
                self.live.remove(ref)
                self.past.append(ref)
                error = errors[number % len(errors)]
                self.failures.setdefault(task, []).append(error)
                self.send(AttemptFailed(ref=ref, error=error))
                self.check_failures(task)
            if self.finish is not None:
                return
            if self.wanted > 0:
                self.grant()
            else:
                self.fire(0.0)
        assert self.finish is not None, "a task that always fails does not end its query"

    @precondition(lambda self: self.live and self.now > 0)
    @rule(data=st.data())
    def beat_until_the_first_reminder(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.live))
        for _ in range(3):
            if self.timer is not None and ref in self.live:
                self.now = max(self.now, self.timer - 0.5)
                self.silent_since[ref] = self.now
                self.begun.setdefault(ref, self.now)
                self.send(AttemptHeartbeat(ref=ref))
                self.fire(0.0)

    def check_failures(self, task: tuple[StageId, TaskIndex]) -> None:
        failures = self.failures.get(task, [])
        own = [one for one in failures if not one.where]  # not those of the task that wrote what it could not read
        counted = sum(one.counts_as_failure for one in own)
        used_up = counted >= LIMITS.max_attempts or len(own) - counted >= LIMITS.max_platform_failures
        rivals = any((one.stage, one.task) == task for one in self.live)
        assert (used_up and not rivals) == (self.finish is not None), "the last attempt that runs decides"
        if self.finish is not None:
            assert self.finish.error is failures[-1]
            assert [record.kind for record in self.finish.history] == [one.kind for one in self.history(task)]

    @precondition(lambda self: self.live and self.now > 0)
    @rule(data=st.data())
    def fail_for_good(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.live))
        self.live.remove(ref)
        error = QueryError("no such column")
        self.send(AttemptFailed(ref=ref, error=error))
        assert self.finish is not None
        assert self.finish.error is error

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def fail_late(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.past))
        before = self.finish
        self.send(AttemptFailed(ref=ref, error=QueryError("late")))
        assert self.finish is before, "an attempt that is over failed the query"

    @precondition(lambda self: self.timer is not None)
    @rule(late=st.sampled_from([0.0, 0.0, 0.5, 20.0]))
    def fire(self, late: float) -> None:
        assert self.timer is not None
        self.now = max(self.now, self.timer + late)
        self.timer = None
        self.send(TimerFired())
        if self.finish is not None and self.finish.error is not None and self.finish.error.kind == "deadline":
            assert self.timeout is not None
            assert self.now >= self.timeout

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        if self.timer is not None:
            self.now = min(self.now, self.timer)

    @precondition(lambda self: self.now > 25)
    @rule()
    def cancel(self) -> None:
        running = self.running()
        self.send(CancelRequested())
        assert self.finish is not None
        if running:
            assert self.finish.error is not None
            assert self.finish.error.kind == "cancelled"

    # What always holds

    @invariant()
    def nothing_waits_for_an_event_that_will_not_come(self) -> None:
        if self.finish is None:
            may_come = self.to_bind or self.live or self.wanted > 0 or self.timer is not None or self.elsewhere
            assert may_come, "a lost wake-up"

    @invariant()
    def each_silent_attempt_is_watched(self) -> None:
        if self.finish is None and (silent := [ref for ref in self.live if ref not in self.answered]):
            assert self.timer is not None
            ends = [
                self.silent_since[ref] + (LIMITS.silence_s if ref in self.begun else LIMITS.start_silence_s)
                for ref in silent
            ]
            assert self.timer <= min(ends), "an attempt may be silent for too long"

    @invariant()
    def the_deadline_is_watched(self) -> None:
        if self.finish is None and hasattr(self, "state") and self.timeout is not None:
            assert self.timer is not None
            assert self.timer <= self.timeout or self.now >= self.timeout

    @invariant()
    def every_ready_task_is_wanted(self) -> None:
        if self.finish is None:
            running = {(ref.stage, ref.task) for ref in self.live}
            open_tasks = {
                (stage, task) for stage, tasks in self.bound.items() for task in tasks if (stage, task) not in self.committed
            }
            assert running <= open_tasks
            assert 0 <= self.wanted <= len(open_tasks - running)
            blocked = {stage for stage in self.bound if self.is_blocked(stage)}
            assert not any(stage in blocked for stage, _ in running), "a task runs whose inputs are not there"
            left = open_tasks - self.waiting()
            fresh = {task for task in left if task not in self.launched and task[0] not in blocked}
            assert len(fresh) <= self.wanted, "a ready task is not wanted"
            assert 0 <= self.spare <= len(running)

    @invariant()
    def when_it_has_ended_nothing_runs_and_it_ended_rightly(self) -> None:
        if self.finish is None:
            return
        assert self.live == [], "an attempt was left running"
        assert self.state.finished
        if self.finish.error is None:
            root = self.stages[-1].id
            keys = [self.committed[root, task] for task in self.bound[root]]
            assert [descriptor.key for descriptor in self.state.descriptors(root)] == keys

    @invariant()
    def its_counts_are_right(self) -> None:
        for stage in getattr(self, "stages", ()):
            counts = self.state.counts(stage.id)
            assert counts.running == len({ref.task for ref in self.live if ref.stage == stage.id})
            assert counts.done == sum(of == stage.id for of, _ in self.committed)
            assert counts.attempts == self.attempts[stage.id]
            assert counts.retries == self.retries[stage.id]

    def teardown(self) -> None:
        """From wherever it is, the query ends when the world goes on."""
        if not hasattr(self, "state"):
            return
        for _ in range(1000):
            if self.finish is not None:
                break
            if self.to_bind:
                self.bind_as_planned()
            elif self.wanted > 0:
                self.send(SlotGranted())
            elif self.live:
                self.answer(self.live[0], 0)
            elif self.elsewhere:
                self.reuse(min(self.elsewhere), 0)
            else:
                assert self.timer is not None
                self.now, self.timer = max(self.now, self.timer), None
                self.send(TimerFired())
        assert self.finish is not None, "the query does not end"
        self.when_it_has_ended_nothing_runs_and_it_ended_rightly()


TestQueryState = QueryMachine.TestCase
TestQueryState.settings = hypothesis_settings(max_examples=150, stateful_step_count=50, deadline=None)
