"""Plan the user's nodes one after the other, inputs first, into one relation.

Shared sub-plans that are worth it (with a join, an aggregate or a sort inside) become a stage of their own, computed once:
float sums in another order would make ``x == max(x)`` miss. A shared bare scan is cheaper read twice, with its
projections and predicates pushed down for each consumer. What draws random numbers is no such sub-plan, wherever else it
stands (:mod:`~frazil_coordinator.plan.randomness`), unless a cache holds it. Next: :mod:`frazil_coordinator.plan.stages`.
"""

from __future__ import annotations

from typing import Final

from frazil_coordinator.plan.context import Context
from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.nodes import Slice, Sort
from frazil_coordinator.plan.order import order_demand
from frazil_coordinator.plan.randomness import node_draws
from frazil_coordinator.plan.relation import Relation
from frazil_coordinator.plan.rules import distribute
from frazil_coordinator.plan.rules.order import top_k

__all__ = ["Distributor"]

_HEAVY: Final = frozenset({"Join", "GroupBy", "Sort", "Distinct"})


class Distributor:
    """Turns the nodes of an arena into relations, equal sub-plans once.

    Parameters
    ----------
    context
        Shared state; its arena is the user's plan.
    ordered
        Whether the order of the plan's rows can be seen.
    """

    def __init__(self, context: Context, *, ordered: bool = True) -> None:
        self._context = context
        self._arena = context.arena
        self._digests = self._arena.digests()
        demand = order_demand(self._arena, self._digests, root=ordered)
        context.ordered = frozenset(number for number, digest in self._digests.items() if digest in demand)
        self._relations: dict[str, Relation] = {}
        self._uses = self._count_uses()
        self._heavy: dict[int, bool] = {}

    def _count_uses(self) -> dict[str, int]:
        """Return digest → number of different nodes that read it."""
        uses: dict[str, int] = {}
        seen: set[str] = set()
        for number, digest in self._digests.items():
            if digest in seen or self._arena.kind(number) == "Cache":
                continue
            seen.add(digest)
            for child in self._arena.inputs(number):
                uses[self._digests[child]] = uses.get(self._digests[child], 0) + 1
        return uses

    def plan(self) -> Relation:
        """Return the relation of the whole plan."""
        for number in self._arena.reachable():
            digest = self._digests[number]
            if digest not in self._relations:
                relation = self._plan_node(number)
                inputs = [self._input(child) for child in self._arena.inputs(number)]
                if relation.is_single and not all(one.is_single for one in inputs):
                    self._heavy[number] = True  # aggregates of floats, computed twice, may differ in their last digits
                if not relation.is_single and number in self._arena.independent and node_draws(self._arena, number):
                    relation = self._context.once(relation)  # rules may read it twice, and each would draw by itself
                self._relations[digest] = self._shared(number, relation)
        return self._relations[self._digests[self._arena.root]]

    def _input(self, number: int) -> Relation:
        return self._relations[self._digests[number]]

    def _plan_node(self, number: int) -> Relation:
        node = decode_node(self._arena, number)
        if isinstance(node, Slice):
            below = decode_node(self._arena, node.inputs[0])
            if isinstance(below, Sort) and self._uses[self._digests[below.number]] == 1:
                best = top_k(node, below, self._context, self._input(below.inputs[0]))
                if best is not None:
                    return best
        return distribute(node, self._context, [self._input(child) for child in node.inputs])

    def _shared(self, number: int, relation: Relation) -> Relation:
        """Give a sub-plan that several nodes read a stage of its own, when it is worth one."""
        if self._uses.get(self._digests[number], 0) < 2 or not self._is_heavy(number) or self._context.small:
            return relation
        return self._context.once(relation)

    def _is_heavy(self, number: int) -> bool:
        if number not in self._heavy:
            own = self._arena.kind(number) in _HEAVY or number in self._arena.independent
            self._heavy[number] = own or any(self._is_heavy(child) for child in self._arena.inputs(number))
        return self._heavy[number]
