"""Cut the relation of a whole plan into stages: one a fragment, producers before consumers.

Consumers are finished before their producers, because what polars can push down into a consumer's inputs (columns,
predicates) is applied to the producers' output. Placeholders are renumbered so that input `n` of a fragment is source `n`
of its stage. The result is a :class:`~frazil_coordinator.plan.model.StageGraph`.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import polars as pl

from frazil_coordinator.plan.combining import with_combiners
from frazil_coordinator.plan.exprs import from_expr, serialised
from frazil_coordinator.plan.model import (
    INLINE_FRAGMENT_BYTES,
    ExchangeSource,
    ExchangeSpec,
    RuntimeFilter,
    Source,
    Stage,
    StageGraph,
)
from frazil_coordinator.plan.pushdown import Demand, observe
from frazil_coordinator.plan.relation import Exchange, ExchangeLeaf, Relation, leaf_tasks, tasks_of
from frazil_coordinator.plan.runtime_filters import FilterOffer, Finished, StageOrder, choose_filters
from frazil_coordinator.plan.switches import choose_switches
from frazil_coordinator.plan.volumes import input_uses
from frazil_functions.arena import Arena
from frazil_functions.ids import StageId
from frazil_functions.task import ROW_TAG_COLUMNS

__all__ = ["build_stages"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fragment:
    """A finished fragment, its leaves in the order of their new numbers."""

    plan: bytes
    leaves: tuple[int, ...]
    details: dict[str, str]
    uses: dict[int, int]
    """How many ways lead from its root to each leaf."""

    kinds: frozenset[str]


def build_stages(
    root: Relation,
    schema: pl.Schema,
    offers: Sequence[FilterOffer] = (),
    *,
    adaptive: bool = False,
    combined_above: int | None = None,
) -> StageGraph:
    """Return the stages of a plan.

    Parameters
    ----------
    root
        The relation of the whole plan.
    schema
        Schema of the result.
    offers
        Runtime filters that the joins permit.
    adaptive
        Whether joins by hash may become broadcasts when a side turns out small.
    combined_above
        Requests of a stage above which a stage of combiners is planned before it; None is never.
    """
    exchanges = _producers_first(root)
    ids = {exchange: StageId(number) for number, exchange in enumerate(exchanges)}
    demands: dict[Exchange, list[Demand]] = {exchange: [] for exchange in exchanges}
    fragments: dict[Exchange | None, _Fragment] = {None: _finish(root, root.lf, {}, demands)}
    for edge in reversed(exchanges):
        lf, details = _output(edge, demands[edge], {offer.key for offer in offers if offer.build is edge})
        fragments[edge] = _finish(edge.producer, lf, details, demands)
    unaggregated = {edge: _unaggregated(edge, demands[edge], fragments[edge]) for edge in exchanges}
    stages: list[Stage] = []
    for exchange in (*exchanges, None):
        relation = root if exchange is None else exchange.producer
        stage = _stage(StageId(len(stages)), relation, exchange, fragments[exchange], ids)
        stage = _in_reserve(stage, stages)
        stages.append(stage if exchange is None else _with_row_states(stage, unaggregated[exchange]))
    order = StageOrder([_finished(root, edge, fragments[edge]) for edge in (*exchanges, None)])
    filters = choose_filters(offers, order)
    stages = [_with_filters(stage, filters) for stage in stages]
    switches = choose_switches(stages, order) if adaptive else {}
    stages = [replace(stage, switch=switches.get(stage.id)) for stage in stages]
    return StageGraph(stages=tuple(map(_told, with_combiners(stages, combined_above))), schema=schema)


def _in_reserve(stage: Stage, before: Sequence[Stage]) -> Stage:
    """Return the stage, marked if it has work only when a partition turns out skewed."""
    parts = [source for source in stage.sources if isinstance(source, ExchangeSource)]
    all_parts = len(parts) == len(stage.sources) > 0
    return replace(
        stage, reserve=all_parts and all(part.partitions == "skewed" or before[part.stage].reserve for part in parts)
    )


def _told(stage: Stage) -> Stage:
    """Return the stage with what EXPLAIN tells of other stages' part in it."""
    details = dict(stage.details)
    if stage.filters:
        details["runtime filter"] = ", ".join(f"{one.column} by stage {one.build}" for one in stage.filters)
    if stage.reserve:
        details["only if"] = "a partition turns out skewed"
    if stage.switch is not None:
        details["not shuffled if small"] = " and ".join(map(str, stage.switch.small))
    return replace(stage, details=details)


def _with_row_states(stage: Stage, fragment: bytes) -> Stage:
    if not fragment:
        return stage
    return replace(stage, unaggregated=fragment, details={**stage.details, "first step": "rows hardly become fewer"})


def _unaggregated(exchange: Exchange, demands: Sequence[Demand], fragment: _Fragment) -> bytes:
    """Return the producer's fragment without its first aggregation; empty when there is none that reads the same."""
    relation = exchange.producer
    if relation.row_states is None:
        return b""
    lf, _ = _output(replace(exchange, producer=replace(relation, lf=relation.row_states)), demands)
    arena = Arena.of(lf)
    if tuple(sorted(arena.placeholders())) != fragment.leaves:
        return b""
    arena.renumber_placeholders({number: position for position, number in enumerate(fragment.leaves)})
    plan = arena.encode()
    return plan if len(plan) <= INLINE_FRAGMENT_BYTES else b""


def _finished(root: Relation, exchange: Exchange | None, fragment: _Fragment) -> Finished:
    relation = root if exchange is None else exchange.producer
    return Finished(leaves=fragment.leaves, uses=fragment.uses, kinds=fragment.kinds, relation=relation, exchange=exchange)


def _with_filters(stage: Stage, filters: Mapping[StageId, Sequence[RuntimeFilter]]) -> Stage:
    """Return the stage with its own filters, and with the keys that it must tell of for those of others."""
    own = tuple(filters.get(stage.id, ()))
    keys = tuple(dict.fromkeys(one.key for ones in filters.values() for one in ones if one.build == stage.id))
    return replace(stage, filters=own, output=replace(stage.output, key_columns=keys))


def _producers_first(root: Relation) -> list[Exchange]:
    """Return every exchange under `root`, each once, producers before consumers."""
    order: list[Exchange] = []
    seen: set[Exchange] = set()

    def visit(relation: Relation) -> None:
        for leaf in relation.leaves.values():
            if isinstance(leaf, ExchangeLeaf) and leaf.exchange not in seen:
                seen.add(leaf.exchange)
                visit(leaf.exchange.producer)
                order.append(leaf.exchange)

    visit(root)
    return order


def _output(
    exchange: Exchange, demands: Sequence[Demand], keys: Collection[str] = ()
) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Return the producer's rows as its consumers need them, with the columns `keys` in any case."""
    lf = exchange.producer.lf
    details: dict[str, str] = {}
    names = lf.collect_schema().names()
    # Who reads skewed partitions does so for the one who reads the others: rows that that one needs not, nobody does.
    plain = [demand for demand in demands if not demand.skewed]
    only = plain[0] if len(plain) == 1 else None
    # A predicate beside a limit holds for the limited rows: it must not come before the limit.
    if only is not None and only.predicate is not None and only.rows is None:
        expr = pl.Expr.deserialize(io.BytesIO(only.predicate))
        if not set(expr.meta.root_names()) & set(ROW_TAG_COLUMNS):
            lf = lf.filter(expr)
            details["filter added"] = " ".join(str(expr).split())
    wanted = _wanted(exchange, demands, names, keys)
    if len(wanted) < len(names):
        lf = lf.select(wanted)
        details["columns sent"] = f"{len(wanted)}/{len(names)}"
    if exchange.kind == "single" and only is not None and only.rows is not None:
        lf = lf.head(only.rows)
        details["rows sent at most"] = str(only.rows)
    if exchange.kind == "range":
        lf = lf.sort(
            [key.column for key in exchange.sort_keys],
            descending=[key.descending for key in exchange.sort_keys],
            nulls_last=[key.nulls_last for key in exchange.sort_keys],
            maintain_order=exchange.stable,
        )
    return lf, details


def _wanted(exchange: Exchange, demands: Sequence[Demand], names: Sequence[str], keys: Collection[str]) -> list[str]:
    """Return the columns that some consumer or the exchange itself looks at, in order; at least one, to count rows."""
    if not demands or any(demand.columns is None for demand in demands):
        return list(names)
    wanted = {name for demand in demands for name in demand.columns or ()}
    wanted |= {name for key in exchange.hash_keys for name in key.meta.root_names()}
    wanted |= {key.column for key in exchange.sort_keys} | set(keys)
    kept = [name for name in names if name in wanted]
    return kept or list(names[:1])


def _finish(
    relation: Relation, lf: pl.LazyFrame, details: dict[str, str], demands: dict[Exchange, list[Demand]]
) -> _Fragment:
    """Renumber the placeholders of a finished fragment, and note what it needs of its exchanges."""
    arena = Arena.of(lf)
    nodes = arena.placeholders()
    leaves = tuple(sorted(nodes))
    inputs = {
        number: (nodes[number], arena.lazy(nodes[number][0]).collect_schema())
        for number in leaves
        if isinstance(relation.leaves[number], ExchangeLeaf)
    }
    if inputs:
        found = observe(_without_scans(arena, relation, nodes), inputs)
        for number in inputs:
            leaf = cast("ExchangeLeaf", relation.leaves[number])
            uses = (None if found is None else found[number]) or [Demand(columns=None, predicate=None, rows=None)]
            skewed = leaf.partitions == "skewed"
            demands[leaf.exchange].extend(replace(use, skewed=True) if skewed else use for use in uses)
    arena.renumber_placeholders({number: position for position, number in enumerate(leaves)})
    return _Fragment(
        plan=arena.encode(),
        leaves=leaves,
        details={**relation.details, **details},
        uses={leaves[position]: ways for position, ways in input_uses(arena).items()},
        kinds=frozenset(arena.kind(number) for number in arena.reachable()),
    )


def _without_scans(arena: Arena, relation: Relation, nodes: dict[int, list[int]]) -> Arena:
    """Return the fragment with empty frames in the place of its files, to be run on empty data."""
    copy = Arena()
    copy.root = copy.append(arena)
    base = copy.root - arena.root
    replacements: dict[int, int] = {}
    for number, places in nodes.items():
        if not isinstance(relation.leaves[number], ExchangeLeaf):
            schema = arena.lazy(places[0]).collect_schema()
            empty = copy.append(Arena.of(pl.LazyFrame(schema=schema)))
            replacements |= {base + place: empty for place in places}
    copy.redirect(replacements)
    # Numbers of the nodes of `arena` are kept: they come first.
    return copy


def _stage(
    number: StageId,
    relation: Relation,
    exchange: Exchange | None,
    fragment: _Fragment,
    ids: dict[Exchange, StageId],
) -> Stage:
    def source(leaf: object) -> Source:
        if isinstance(leaf, ExchangeLeaf):
            return ExchangeSource(
                stage=ids[leaf.exchange],
                read=leaf.read,
                first_task=leaf.first_task,
                tasks=leaf_tasks(leaf),
                partitions=leaf.partitions,
            )
        return cast("Source", leaf)

    return Stage(
        id=number,
        kind=relation.kind,
        fragment=fragment.plan,
        sources=tuple(source(relation.leaves[leaf]) for leaf in fragment.leaves),
        tasks=tasks_of(relation),
        output=_spec(exchange),
        operators=relation.operators,
        distribution=str(relation.distribution),
        fallbacks=relation.fallbacks,
        # What a fragment reads twice (a join with itself) would be divided on both sides at once.
        divisible=frozenset(
            position
            for position, leaf in enumerate(fragment.leaves)
            if leaf in relation.divisible and fragment.uses.get(leaf) == 1
        ),
        first_rows=relation.first_rows,
        details=fragment.details,
    )


def _spec(exchange: Exchange | None) -> ExchangeSpec:
    if exchange is None:
        return ExchangeSpec(kind="single", final=True)
    return ExchangeSpec(
        kind=exchange.kind,
        partitions=exchange.partitions,
        hash_keys=tuple(serialised(from_expr(key)) for key in exchange.hash_keys),
        sort_keys=exchange.sort_keys,
        row_tag=exchange.row_tag,
    )
