"""What the tasks of one query are sent, to be looked at: by task, and of the one that the query failed with.

Owned by :mod:`frazil_coordinator.schedule.driver`; it changes nothing, and goes on to answer when the driver has ended.
:mod:`frazil_coordinator.replays` makes bundles of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from frazil_coordinator.refusals import TaskNotReadyError, UnknownTaskError
from frazil_coordinator.schedule.attempts import Requests
from frazil_coordinator.schedule.barrier import Barrier
from frazil_coordinator.schedule.messages import AttemptRef
from frazil_coordinator.schedule.profile import Recorder
from frazil_functions.errors import FrazilError
from frazil_functions.ids import StageId, TaskIndex
from frazil_functions.task import TaskRequest

__all__ = ["Told"]


class Told:
    """The requests of one query's tasks.

    Parameters
    ----------
    requests, barrier, recorder
        Those of its driver; they are only looked at.
    """

    def __init__(self, requests: Requests, barrier: Barrier, recorder: Recorder) -> None:
        self._requests = requests
        self._barrier = barrier
        self._recorder = recorder

    def of(self, stage: int, task: int, attempt: int | None = None) -> TaskRequest:
        """Return what an attempt was sent, or would be sent now.

        Parameters
        ----------
        stage, task
            The task.
        attempt
            Its number. None: the last one that was sent.

        Raises
        ------
        UnknownTaskError
            When there is no such stage or task, or no such attempt was sent.
        TaskNotReadyError
            When what the task reads is not there yet.
        """
        stages = self._barrier.graph.stages
        if stage >= len(stages):
            raise UnknownTaskError(f"there is no stage {stage}: the query has stages 0 to {len(stages) - 1}")
        layout = self._barrier.layouts.get(StageId(stage))
        if layout is None:
            raise TaskNotReadyError(f"stage {stage} waits for what it reads: ask again when the stages before it are done")
        if task >= len(layout.shares):
            raise UnknownTaskError(f"there is no task {task} in stage {stage}: it has tasks 0 to {len(layout.shares) - 1}")
        sent = self._recorder.attempts_of(StageId(stage), task)
        if attempt is not None and attempt not in (sent or (0,)):
            known = ", ".join(map(str, sent)) or "none"
            raise UnknownTaskError(f"attempt {attempt} of task {task} in stage {stage} was not sent; attempts: {known}")
        number = attempt if attempt is not None else sent[-1] if sent else 0
        return self._requests.of(AttemptRef(StageId(stage), TaskIndex(task), number))

    def every(self) -> Iterator[TaskRequest]:
        """Yield what the last attempt of each task was sent, those that were divided too."""
        for stage, layout in self._barrier.layouts.items():
            for task in range(len(layout.shares)):
                yield self.of(stage, task)

    def failed(self, error: FrazilError) -> TaskRequest | None:
        """Return what the task was sent that a query failed with; None when it failed with none."""
        stage, task = error.where.get("stage", ""), error.where.get("task", "")
        if not (stage.isdecimal() and task.isdecimal()):
            return None
        return self.of(int(stage), int(task))
