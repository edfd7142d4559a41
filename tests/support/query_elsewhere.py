"""What other queries may do to the state of one in its model-based test: run its tasks, answer them, or leave them to it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from frazil_coordinator.schedule.messages import AnswerReused, AttemptRef, NotElsewhere, Restart, RunsElsewhere
from frazil_functions.ids import StageId, TaskIndex
from support.query_world import QueryWorld, done

__all__ = ["SharingWorld"]


class SharingWorld(QueryWorld):
    """A world in which tasks run elsewhere, too."""

    def __init__(self) -> None:
        super().__init__()
        self.elsewhere: set[AttemptRef] = set()
        """What tasks wait for."""

    def waiting(self) -> set[tuple[StageId, TaskIndex]]:
        """Tasks that wait for an answer from elsewhere."""
        return {(ref.stage, ref.task) for ref in self.elsewhere} - self.committed.keys()

    def begin_anew(self, stage: StageId) -> None:
        self.elsewhere = {ref for ref in self.elsewhere if ref.stage != stage}
        super().begin_anew(stage)

    def found_elsewhere(self, data: st.DataObject, stage: StageId, tasks: list[TaskIndex]) -> frozenset[TaskIndex]:
        """Choose tasks of a stage whose answers are there when it is bound."""
        some = st.sets(st.sampled_from(tasks)) if tasks else st.just(set[TaskIndex]())
        found = data.draw(st.one_of(st.just(set[TaskIndex]()), some))
        self.elsewhere |= {AttemptRef(stage, task, self.first[stage]) for task in found}
        return frozenset(found)

    def just_launched(self) -> list[AttemptRef]:
        tasks = [ref[:2] for ref in self.live]
        known = self.doubles | self.answered | self.begun.keys()
        return [ref for ref in self.live if ref not in known and tasks.count(ref[:2]) == 1]

    @precondition(lambda self: self.finish is None and self.just_launched())
    @rule(data=st.data())
    def runs_elsewhere(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.just_launched()))
        self.live.remove(ref)
        self.attempts[ref.stage] -= 1
        self.retries[ref.stage] -= ref.attempt > self.first[ref.stage]
        self.elsewhere.add(ref)
        self.send(RunsElsewhere(ref=ref))

    @precondition(lambda self: self.elsewhere)
    @rule(data=st.data(), execution=st.sampled_from([0, 0, 1]))
    def is_answered_elsewhere(self, data: st.DataObject, execution: int) -> None:
        self.reuse(data.draw(st.sampled_from(sorted(self.elsewhere))), execution)

    def reuse(self, ref: AttemptRef, execution: int) -> None:
        """Let an answer come from elsewhere."""
        self.elsewhere.remove(ref)
        task, descriptor = (ref.stage, ref.task), done(ref, execution)
        if self.finish is not None or task in self.committed:
            assert self.send(AnswerReused(ref=ref, descriptor=descriptor)) == [], "it has an answer"
            return
        lost, behind = self.lost.pop(task, None), self.behind(ref.stage)
        self.committed[task] = descriptor.key
        self.launched[task] = ref.attempt + 1
        instructions = self.send(AnswerReused(ref=ref, descriptor=descriptor))
        anew = {one.stage for one in instructions if isinstance(one, Restart)}
        assert anew == (behind if lost is not None and lost[-1] != str(execution) else set())

    @precondition(lambda self: self.elsewhere)
    @rule(data=st.data())
    def is_not_answered_elsewhere(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(sorted(self.elsewhere)))
        self.elsewhere.remove(ref)
        before = self.wanted
        self.send(NotElsewhere(ref=ref))
        waits = self.finish is None and ref[:2] not in self.committed and not self.is_blocked(ref.stage)
        assert self.wanted == before + waits, "a task that nobody else runs is not wanted"

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def an_answer_from_elsewhere_that_nobody_waits_for_is_nothing(self, data: st.DataObject) -> None:
        ref = data.draw(st.sampled_from(self.past))
        if ref not in self.elsewhere and ref[:2] not in self.waiting():
            before = self.wanted
            assert self.send(AnswerReused(ref=ref, descriptor=done(ref))) == []
            self.send(NotElsewhere(ref=ref))
            assert self.wanted == before
