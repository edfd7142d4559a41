"""Which files a scan names, and how they are cut into splits."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl
import pytest

from frazil_coordinator.plan.decode import decode_node
from frazil_coordinator.plan.listing import expand
from frazil_coordinator.plan.nodes import Scan
from frazil_coordinator.plan.tables import Table, Unsplittable, cut, open_table
from frazil_coordinator.settings import Settings
from frazil_functions.arena import Arena
from frazil_functions.errors import QueryError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 10, 0 and 25 rows; a nested one; and a hidden one."""
    frame = pl.DataFrame({"a": range(35), "s": [str(n) for n in range(35)]})
    frame.slice(0, 10).write_parquet(tmp_path / "0.parquet", row_group_size=4)
    frame.slice(0, 0).write_parquet(tmp_path / "1.parquet")
    (tmp_path / "sub").mkdir()
    frame.slice(10).write_parquet(tmp_path / "sub" / "2.parquet", row_group_size=10)
    return tmp_path


def _open(lf: pl.LazyFrame) -> Table:
    arena = Arena.of(lf)
    return open_table(cast("Scan", decode_node(arena, arena.root)), lf.collect_schema())


@pytest.mark.parametrize("pattern", ["*.parquet", "**/*.parquet", "[01].parquet", "?.parquet", "", "sub/2.parquet"])
def test_same_files_in_the_same_order_as_polars(folder: Path, pattern: str) -> None:
    path = f"{folder}/{pattern}"
    read = pl.scan_parquet(path, include_file_paths="file").select("file").unique(maintain_order=True).collect()
    found = [file.path for file in expand([path], None, use_glob=True) if pl.read_parquet(file.path).height]
    assert found == read["file"].to_list()


def test_a_pattern_may_stand_for_no_file_and_a_path_may_not(folder: Path) -> None:
    assert expand([f"{folder}/*.csv", f"{folder}/0.parquet"], None, use_glob=True)[0].path.endswith("0.parquet")
    with pytest.raises(FileNotFoundError):
        expand([f"{folder}/0.csv"], None, use_glob=True)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 100])
def test_splits_cover_every_row_once_in_order(folder: Path, rows: int) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet"))
    groups = cut(table, None, Settings(max_rows_per_split=rows)).groups
    assert all(sum(split.rows for split in group) <= rows for group in groups)
    read = [pl.scan_parquet(split.path).slice(split.offset, split.rows).collect() for group in groups for split in group]
    assert pl.concat(read)["a"].to_list() == list(range(35))


def test_small_row_groups_are_packed_up_to_the_target(folder: Path) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet"))
    one = cut(table, None, Settings()).groups
    assert len(one) == 1
    assert all(split.whole for split in one[0] if split.rows)
    assert len(cut(table, None, Settings(split_target_bytes=1)).groups) == 6


@pytest.mark.parametrize(("least", "tasks"), [(1, 1), (2, 3), (4, 6), (1000, 6)])
def test_a_small_table_is_cut_into_as_many_tasks_as_were_asked_for_and_it_has_row_groups_for(
    folder: Path, least: int, tasks: int
) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet"))
    assert len(cut(table, None, Settings(min_tasks_per_scan=least)).groups) == tasks
    assert len(cut(table, None, Settings(min_tasks_per_scan=least), small=True).groups) == 1


def test_only_projected_columns_count_towards_the_target(folder: Path) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet"))
    assert 0 < table.bytes(["a"]) < table.bytes(None)


def test_splits_grow_rather_than_exceed_the_bound_of_tasks(folder: Path) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet"))
    assert len(cut(table, None, Settings(split_target_bytes=1, max_tasks_per_stage=2)).groups) <= 3
    assert len(cut(table, None, Settings(split_target_bytes=1, max_rows_per_split=1, max_tasks_per_stage=2)).groups) <= 3


def test_empty_table_is_one_task_without_splits(folder: Path) -> None:
    table = _open(pl.scan_parquet(folder / "1.parquet"))
    assert cut(table, None, Settings(max_rows_per_split=4)).groups == ((),)


@pytest.mark.parametrize(("rows", "kept"), [(0, 0), (3, 3), (12, 12), (100, 35)])
def test_user_s_number_of_rows_trims_the_splits(folder: Path, rows: int, kept: int) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet", n_rows=rows))
    groups = cut(table, None, Settings(max_rows_per_split=4)).groups
    assert sum(split.rows for group in groups for split in group) == kept


def test_splits_know_the_rows_before_their_file(folder: Path) -> None:
    table = _open(pl.scan_parquet(f"{folder}/**/*.parquet", row_index_name="i"))
    splits = [split for group in cut(table, None, Settings(max_rows_per_split=4)).groups for split in group]
    starts = {Path(split.path).name: split.rows_before for split in splits}
    assert starts == {"0.parquet": 0, "2.parquet": 10}


def test_placeholder_of_hive_partitions_yields_the_schema_of_the_scan(tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        pl.DataFrame({"a": [year]}).write_parquet(tmp_path / f"year={year}" / "0.parquet")
    table = _open(pl.scan_parquet(tmp_path))
    assert len(cut(table, None, Settings(max_rows_per_split=1)).groups) == 2
    assert table.placeholder(0).collect_schema() == {"a": pl.Int64(), "year": pl.Int64()}


def test_folders_that_repeat_a_column_of_the_files_are_not_split(tmp_path: Path) -> None:
    (tmp_path / "year=2023").mkdir()
    pl.DataFrame({"year": [1], "a": [2]}, schema={"year": pl.Int32, "a": pl.Int64}).write_parquet(
        tmp_path / "year=2023" / "0.parquet"
    )
    with pytest.raises(Unsplittable, match="folders"):
        _open(pl.scan_parquet(tmp_path))


def test_text_files_are_one_split_each(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("a\n1\n2\n")
    table = _open(pl.scan_csv(tmp_path / "*.csv"))
    assert [len(group) for group in cut(table, None, Settings(max_rows_per_split=4)).groups] == [1, 1, 1]
    assert len(cut(table, None, Settings()).groups) == 1


def test_large_text_file_is_cut_at_ends_of_lines(tmp_path: Path) -> None:
    text = "a,b\n" + "".join(f'{number},"x\ny"\n' for number in range(50))
    (tmp_path / "0.csv").write_text(text)
    (group, *_) = groups = cut(_open(pl.scan_csv(tmp_path / "0.csv")), None, Settings(split_target_bytes=40)).groups
    splits = [split for group in groups for split in group]
    assert len(splits) > 10
    assert (group[0].start, group[0].header) == (0, None)
    assert {split.header for split in splits[1:]} == {b"a,b\n"}
    ends = [split.start + cast("int", split.length) for split in splits]
    assert ends == [*(split.start for split in splits[1:]), len(text)]
    assert all(text[split.start - 3 : split.start] == 'y"\n' for split in splits[1:])
    whole = cut(_open(pl.scan_csv(tmp_path / "0.csv")), None, Settings(split_target_bytes=40, split_text_files=False))
    assert (whole.reason, [len(group) for group in whole.groups]) == ("split_text_files is off", [1])


def test_no_text_file_is_cut_into_more_ranges_than_a_stage_may_have_tasks(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    pl.DataFrame({"a": range(200)}).write_csv(path)
    settings = Settings(split_target_bytes=1, max_rows_per_split=4, max_tasks_per_stage=5)
    assert len(cut(_open(pl.scan_csv(path)), None, settings).groups) == 5


def test_file_that_is_not_parquet_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "0.parquet")
    (tmp_path / "1.parquet").write_bytes(b"PAR1" + b"x" * 100 + b"\x08\x00\x00\x00PAR1")
    with pytest.raises(QueryError, match=r"1\.parquet"):
        _open(pl.scan_parquet(tmp_path / "*.parquet"))
