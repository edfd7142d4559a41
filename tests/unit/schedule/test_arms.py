"""A task of a wide union gets only the arms that it reads; those that might yield rows of nothing it gets all the same."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from frazil_coordinator.plan.model import INLINE_FRAGMENT_BYTES, Stage
from frazil_coordinator.plan.planner import plan_query
from frazil_coordinator.schedule.arms import Arms, Fragments, StoredFragment
from frazil_coordinator.schedule.layout import lay_out
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.task import ExchangeInput, ScanInput

SETTINGS = Settings(start_small=False, max_rows_per_split=4)
ARMS = 12
FRAMES = [pl.LazyFrame({"n": range(first, first + 6), "s": ["x"] * 6}) for first in range(ARMS)]


def tasks_of(query: pl.LazyFrame) -> tuple[Stage, list[tuple[set[int], set[int]]]]:
    """Return the only stage of a query, and of each task: the inputs with rows, and those that its fragment reads."""
    graph = plan_query(query.serialize(), SETTINGS)
    (stage,) = graph.stages
    arms = Arms.of(stage.fragment, len(stage.sources))
    found = []
    for share in lay_out(stage, {}, graph, SETTINGS, {}).shares:
        given = [one.blocks if isinstance(one, ExchangeInput) else one.splits for one in share.inputs]
        fragment = Arena.decode(arms.fragment(share.inputs))
        found.append(({number for number, rows in enumerate(given) if rows}, set(fragment.placeholders())))
    return stage, found


@pytest.mark.parametrize(
    "arm",
    [
        lambda lf: lf,
        lambda lf: lf.filter(pl.col("n") > 3).select(pl.col("n") * 2, "s"),
        lambda lf: lf.with_columns(one=pl.lit(1)),
    ],
    ids=["tables", "rows", "literals"],
)
def test_a_task_of_a_wide_union_runs_only_the_arm_that_it_reads(arm: Callable[[pl.LazyFrame], pl.LazyFrame]) -> None:
    stage, tasks = tasks_of(pl.concat(map(arm, FRAMES)).filter(pl.col("n") != 5))
    assert stage.tasks == len(tasks) == 2 * ARMS
    assert all(len(read) == 1 and fragment == read for read, fragment in tasks)


def test_the_size_of_a_fragment_does_not_grow_with_the_arms_of_a_union() -> None:
    graph = plan_query(pl.concat(FRAMES * 10).serialize(), SETTINGS)
    (stage,) = graph.stages
    assert len(stage.fragment) > INLINE_FRAGMENT_BYTES
    arms = Arms.of(stage.fragment, len(stage.sources))
    shares = lay_out(stage, {}, graph, SETTINGS, {}).shares
    assert max(len(arms.fragment(share.inputs)) for share in shares) < INLINE_FRAGMENT_BYTES / 10


def test_a_part_of_a_large_fragment_travels_with_its_task_and_the_whole_one_apart() -> None:
    graph = plan_query(pl.concat(FRAMES * 10).serialize(), SETTINGS)
    (stage,) = graph.stages
    shares = lay_out(stage, {}, graph, SETTINGS, {}).shares
    fragments = Fragments()
    stored = fragments.stored[stage.id] = StoredFragment(key="key", secret=b"secret")
    part, key = fragments.of_task(stage, shares[0].inputs)
    assert (len(Arena.decode(part).placeholders()), key) == (1, None)
    every = [share.inputs[number] for number, share in enumerate(shares[::2])]
    assert fragments.of_task(stage, every) == (b"", stored)


def test_a_union_whose_columns_depend_on_all_of_its_inputs_is_left_whole() -> None:
    frames = [frame.with_columns(pl.col("n").cast(pl.Int32)) if n == 3 else frame for n, frame in enumerate(FRAMES)]
    _, tasks = tasks_of(pl.concat(frames, how="vertical_relaxed"))
    assert all(fragment == set(range(ARMS)) for _, fragment in tasks)


@pytest.mark.parametrize(
    "arm",
    [
        lambda lf: lf.select(pl.len()),
        lambda lf: lf.select(pl.col("n").sum()),
        lambda lf: lf.map_batches(lambda frame: frame),
        lambda lf: lf.select(n=pl.int_range(3)),
    ],
    ids=["count", "sum", "function of the user's", "rows of nothing"],
)
def test_an_arm_that_may_yield_rows_of_nothing_is_never_left_out(arm: Callable[[pl.LazyFrame], pl.LazyFrame]) -> None:
    scans = [pl.LazyFrame(schema={"n": pl.Int64})] * ARMS
    fragment = Arena.of(pl.concat([_placeholder(arm, number) for number in range(len(scans))])).encode()
    idle = [ScanInput(splits=())] * ARMS
    assert set(Arena.decode(Arms.of(fragment, ARMS).fragment(idle)).placeholders()) == set(range(ARMS))


def _placeholder(arm: Callable[[pl.LazyFrame], pl.LazyFrame], number: int) -> pl.LazyFrame:
    return arm(pl.scan_parquet(f"frazil-input:///{number}", schema={"n": pl.Int64, "s": pl.String}, glob=False))


def test_of_arms_that_are_all_idle_one_stays() -> None:
    fragment = pl.concat([_placeholder(lambda lf: lf, number) for number in range(ARMS)]).serialize()
    left = Arena.decode(Arms.of(fragment, ARMS).fragment([ScanInput(splits=())] * ARMS))
    assert list(left.placeholders()) == [0]
    assert left.lazy().collect_schema() == {"n": pl.Int64, "s": pl.String}
