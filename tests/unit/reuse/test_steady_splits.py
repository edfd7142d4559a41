"""How files are cut where answers shall be used again: a file more, or less, changes the task that it is in and no other."""

from __future__ import annotations

import zlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from frazil_coordinator.plan.footers import Footer, RowGroup
from frazil_coordinator.plan.tables import Table, cut
from frazil_coordinator.settings import MIB, Settings
from frazil_functions.scan_files import FileStat
from frazil_functions.task import Split

SETTINGS = Settings(reuse="tasks")


def table(files: dict[str, int]) -> Table:
    """Return a table of files of one row group each, of so many bytes, in the order of their names."""
    names = sorted(files)
    return Table(
        scan={},
        files=tuple(FileStat(path=name, size=files[name] + 10, etag=f"{name}-{files[name]}") for name in names),
        footers=tuple(Footer(row_groups=(RowGroup(rows=10, bytes={"v": files[name]}),)) for name in names),
        schema=pl.Schema({"v": pl.Int64()}),
        path="t",
    )


def groups(files: dict[str, int], settings: Settings = SETTINGS) -> list[frozenset[tuple[str, int]]]:
    """Return the files of each task, as a digest would know them."""
    cuts = cut(table(files), None, settings)
    assert [split.path for group in cuts.groups for split in group] == sorted(files), "the order is that of the files"
    return [frozenset(_known(split) for split in group) for group in cuts.groups]


def _known(split: Split) -> tuple[str, int]:
    return split.path, split.size or 0


def many(count: int, size: int = 1_000) -> dict[str, int]:
    return {f"day-{number:05}.parquet": size for number in range(count)}


@pytest.mark.parametrize("count", [1, 2, 50, 1_024])
def test_up_to_1024_files_have_a_task_each(count: int) -> None:
    assert [len(group) for group in groups(many(count))] == [1] * count


@pytest.mark.parametrize("count", [1_025, 3_000, 20_000])
def test_more_files_share_tasks_of_which_there_are_about_1024_at_most(count: int) -> None:
    sizes = [len(group) for group in groups(many(count))]
    assert 400 <= len(sizes) <= 1_200
    assert max(sizes) < 25 * count / len(sizes)


def test_a_task_reads_no_more_than_a_split_should_whatever_the_names() -> None:
    files = many(4_000, 40 * MIB)
    assert all(len(group) <= 3 for group in groups(files))


def test_without_reuse_small_files_are_packed_as_before() -> None:
    assert [len(group) for group in groups(many(50), Settings())] == [50]


@hypothesis_settings(max_examples=25, deadline=None)
@given(
    count=st.sampled_from([3, 700, 1_023, 1_500, 2_040]),
    name=st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8),
    size=st.integers(1, 60 * MIB),
    at_end=st.booleans(),
)
def test_a_file_more_changes_the_task_into_which_it_comes_and_no_other(
    count: int, name: str, size: int, at_end: bool
) -> None:
    files = many(count)
    new = f"day-{'9' * 6 if at_end else zlib.crc32(name.encode()) % count:05}{name}.parquet"
    before, after = set(groups(files)), set(groups({**files, new: size}))
    gone, came = before - after, after - before
    assert len(gone) <= 1
    assert len(came) <= 2, "the file may be where a task ends"
    assert {one for group in came for one in group} - {one for group in gone for one in group} == {(new, size + 10)}


def test_a_file_that_is_replaced_changes_its_task_only() -> None:
    files = many(2_000)
    before, after = set(groups(files)), set(groups({**files, "day-00777.parquet": 999}))
    assert len(before - after) == len(after - before) == 1


def test_measured_memory_changes_no_cut() -> None:
    """Factors of memory lower the bytes of a split by odd amounts."""
    files = {"a": 600 * MIB, "b": 600 * MIB}
    near = [Settings(reuse="tasks", split_target_bytes=target) for target in (128 * MIB, 140 * MIB, 255 * MIB)]
    assert len({tuple(groups(files, one)) for one in near}) == 1
