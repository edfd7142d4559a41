"""What is decided about a stage when its producers are finished: the layouts of a query's stages, and how its plan changed.

Asked by :mod:`frazil_coordinator.schedule.driver` at each stage barrier. The decisions are made by
:mod:`frazil_coordinator.schedule.broadcast` (is it shuffled at all), :mod:`~frazil_coordinator.schedule.layout` (its tasks)
and :mod:`~frazil_coordinator.schedule.combine` (are blocks copied first); this module keeps what later stages need to know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frazil_coordinator.plan.memory import Factors
from frazil_coordinator.plan.model import Stage, StageGraph
from frazil_coordinator.schedule.bind import Descriptors
from frazil_coordinator.schedule.broadcast import joined_in_place
from frazil_coordinator.schedule.combine import lay_out_combiners, moved_places, with_places
from frazil_coordinator.schedule.layout import Layout, lay_out
from frazil_coordinator.schedule.messages import AttemptRef
from frazil_coordinator.schedule.peaks import Peaks, Rows, scan_rows
from frazil_coordinator.settings import Settings
from frazil_functions.ids import StageId
from frazil_functions.task import Descriptor

__all__ = ["Barrier", "Finished"]

Finished = Callable[[StageId], Sequence[Descriptor] | None]
"""Returns what a stage wrote, in the order of its rows; None while it is not finished."""


class Barrier:
    """The stages of one query as they are laid out.

    Parameters
    ----------
    graph
        The plan.
    settings
        The query's.
    peaks
        What tasks of the coordinator needed so far.
    """

    def __init__(self, graph: StageGraph, settings: Settings, peaks: Peaks | None = None) -> None:
        self.graph = graph
        """The plan, as changed so far."""

        self.layouts: dict[StageId, Layout] = {}
        """The stages that were laid out; whoever divides a task, or changes a layout otherwise, puts the new one here."""

        self._settings = settings
        self._peaks = peaks or Peaks()
        self._rows: dict[StageId, Rows] = {}
        self._places: dict[tuple[str, int], tuple[str, int]] = {}

    @property
    def factors(self) -> Factors:
        """How many times their input tasks are taken to hold now."""
        return self._peaks.factors

    def lay_out(self, number: StageId, finished: Finished, factors: Factors | None = None) -> Layout:
        """Lay out a stage whose producers are finished, and return its tasks; the same ones for the same parameters.

        Parameters
        ----------
        number, finished
            The stage, and what others wrote.
        factors
            How many times their input tasks are taken to hold; None: as is known now.

        Raises
        ------
        InternalError
            When the plan does not fit together, or a task did something else than it was told to.
        """
        factors = self.factors if factors is None else factors
        known = self._known(self.graph.stages[number], finished)
        if (changed := joined_in_place(self.graph, number, known, self._settings)) is not None:
            self.graph = changed
            known = self._known(self.graph.stages[number], finished)
        stage = self.graph.stages[number]
        units = {other: layout.units for other, layout in self.layouts.items() if not layout.as_planned}
        if stage.kind == "combine":
            layout = lay_out_combiners(stage, known, self.graph, self._settings, units, factors)
        else:
            if stage.combiner is not None:
                self._places |= moved_places(self.layouts[stage.combiner], known[stage.combiner])
            layout = lay_out(stage, known, self.graph, self._settings, units, factors)
            if self._places:
                layout = with_places(layout, self._places, "reads blocks that were combined")
        self.layouts[number] = layout
        self._rows[number] = scan_rows(layout.stage)
        return layout

    def needed(self, ref: AttemptRef, peak_bytes: int) -> float | None:
        """Take the memory that an attempt needed, and return how many times its input that is, if it can be told."""
        layout = self.layouts[ref.stage]
        inputs = layout.shares[ref.task].inputs
        return self._peaks.note(
            layout.stage, inputs, self._rows[ref.stage], peak_bytes, self._settings.function_memory_bytes
        )

    def _known(self, stage: Stage, finished: Finished) -> Descriptors:
        """Return what stages wrote that this one has to do with, as far as they are finished."""
        readers = [one for one in self.graph.stages if one.combiner == stage.id]
        others = {other for one in (stage, *readers) for other in (*one.producers, *one.awaits)}
        return {other: written for other in sorted(others) if (written := finished(other)) is not None}
