"""When the output of a task can't be read any more: the task runs again, and what was made of its output stands or is void.

A task is a function of its inputs, but its rows may come in another order when it runs again, as those of a group_by do,
and sums of floats differ in their last bits then. A query that took the old output for one part of its answer and the new
one for another would give an answer that Polars never gives. So only an output of the same bytes takes the place of a lost
one; after any other, all stages behind it begin anew.

A part of the state machine of :mod:`frazil_coordinator.schedule.state`, which tells it what is lost and found again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from frazil_coordinator.schedule.books import ATTEMPTS_A_TASK, Phase, StageState, TaskState
from frazil_coordinator.schedule.messages import Instruction, Lost, Moved, Restart
from frazil_functions.errors import BlockError, FrazilError
from frazil_functions.ids import StageId
from frazil_functions.task import Descriptor

__all__ = ["Losses", "places_between", "same_output"]


class Machine(Protocol):
    """The state machine, as it is used here."""

    def make_ready(self, task: TaskState) -> None:
        """Let a task have the next slot that it can get."""
        ...

    def stop(self, task: TaskState, phase: Phase) -> None:
        """Let nothing of a task run or wait: it has another phase from now on."""
        ...

    def tell(self, instruction: Instruction) -> None:
        """Give an instruction."""
        ...


class Losses:
    """The lost outputs of one query.

    Parameters
    ----------
    stages
        The books of the stages, which are changed.
    consumers
        Of each stage, those that read it or await it.
    machine
        Whose books they are.
    """

    def __init__(
        self, stages: Sequence[StageState], consumers: Mapping[StageId, Sequence[StageId]], machine: Machine
    ) -> None:
        self._stages = stages
        self._consumers = consumers
        self._machine = machine

    def writer_of(self, error: FrazilError) -> TaskState | None:
        """Return the task whose committed object an attempt could not read; None when it failed for another reason."""
        key = error.where.get("object") if isinstance(error, BlockError) else None
        tasks = (task for stage in self._stages if key for task in stage.in_order())
        return next((task for task in tasks if task.committed is not None and task.committed.key == key), None)

    def reads_again(self, task: TaskState, error: FrazilError) -> bool:
        """Return whether a task is to read once more what it could not read: once for each object."""
        key = error.where["object"]
        first = key not in task.unread
        task.unread.add(key)
        return first

    def lost(self, task: TaskState) -> None:
        """Run a task again whose output can't be read, and let those who read it wait."""
        stage = self._stages[task.stage]
        for reader in (self._stages[consumer] for consumer in self._consumers[task.stage]):
            if task.stage not in reader.shape.producers:
                continue  # what it awaited it has
            reader.missing += stage.complete
            if reader.asked and not reader.blocked:
                self._block(reader)
        task.losses += 1
        task.lost, task.committed = task.committed, None
        stage.done -= 1
        self._machine.tell(Lost(stage=task.stage, task=task.index))
        self._machine.make_ready(task)

    def found_again(self, task: TaskState, after: Descriptor) -> None:
        """Take the new output of a task whose output was lost."""
        before, task.lost = task.lost, None
        if before is not None and same_output(before, after):
            self._machine.tell(Moved(stage=task.stage, task=task.index, before=before, after=after))
            return
        readers = self._behind(task.stage)
        for stage in readers:
            self._restart(stage)
        for stage in readers:
            producers = [self._stages[one] for one in stage.shape.producers]
            # The stage of the task counts as incomplete until it is told that it is complete.
            stage.missing = sum(one.shape.id == task.stage or not one.complete for one in producers)

    def unblock(self, stage: StageState) -> None:
        """Let a stage go on, whose inputs are all there again."""
        stage.blocked = False
        for task in stage.in_order():
            if task.phase == "blocked":
                self._machine.make_ready(task)

    def _block(self, stage: StageState) -> None:
        stage.blocked = True
        for task in stage.in_order():
            if task.phase in ("ready", "running", "waiting"):
                self._machine.stop(task, "blocked")

    def _restart(self, stage: StageState) -> None:
        if not stage.asked:
            return
        for task in stage.tasks:
            self._machine.stop(task, "void")
        stage.asked = stage.bound = stage.blocked = False
        stage.waiting_until = None
        stage.tasks, stage.order, stage.done, stage.wave = [], [], 0, 0
        stage.first_attempt += ATTEMPTS_A_TASK
        self._machine.tell(Restart(stage=stage.shape.id))

    def _behind(self, stage: StageId) -> list[StageState]:
        """Return the stages whose answers depend on those of `stage`, however far behind it, in order."""
        found: set[StageId] = set()
        ahead = [*self._consumers[stage]]
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self._consumers[one]
        return [self._stages[one] for one in sorted(found)]


def same_output(before: Descriptor, after: Descriptor) -> bool:
    """Return whether two executions of a task wrote the same blocks, in the same order, wherever they lie."""
    return (
        (before.key is None) == (after.key is None)
        and [(one.partition, one.rows, one.length, one.crc32c, one.low) for one in before.blocks]
        == [(one.partition, one.rows, one.length, one.crc32c, one.low) for one in after.blocks]
        and before.keys == after.keys
    )


def places_between(before: Descriptor, after: Descriptor) -> dict[tuple[str, int], tuple[str, int]]:
    """Return where the blocks of an output are in one of the same bytes: object key and offset, before and after."""
    return {
        (before.key or "", old.offset): (after.key or "", new.offset)
        for old, new in zip(before.blocks, after.blocks, strict=True)
    }
