"""Where lines of text files end, and what a task accepts as a range of them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from frazil_functions.errors import BordersError
from frazil_functions.task import Split
from frazil_functions.text_ranges import Dialect, RangeFile

CSV = Dialect(quote=ord('"'), separator=ord(","))


@pytest.mark.parametrize(
    ("data", "borders"),
    [
        (b"a,b\nc,d\n", [4]),
        (b'a,"b\nc"\nd,e', [8]),
        (b'a,"b""\n""c"\nd', [12]),
        (b"a\n\nb\r\n\r\nc", [3, 8]),
        (b"a\n\xef\xbb\xbfb\nc", [7]),
    ],
)
def test_range_may_start_behind_a_newline_outside_of_quotes(data: bytes, borders: list[int]) -> None:
    assert list(CSV.borders(data)) == borders


def test_every_newline_ends_a_line_where_nothing_is_quoted() -> None:
    assert list(Dialect().borders(b'{"a":"\\n"}\n{"a":2}\n{}')) == [11, 19]


def test_flaws_tell_which_side_of_the_quotes_data_starts_on() -> None:
    inside = b'text",4\n5,"more\ntext",6\n'
    assert CSV.flaws(inside, quoted=True) == 0
    assert CSV.flaws(inside, quoted=False) > 0
    assert list(CSV.borders(inside, quoted=True))[:1] == [8]


@pytest.mark.parametrize(
    "data", [b"a,b\n", b'a,"b\n"\n', b'"",""\n', b'"a""b",c\n', b'"""a""","\n"\n', b'1,2\n"x"\r\n,"y"', b""]
)
def test_whole_quoted_fields_are_accepted(data: bytes) -> None:
    CSV.check(data)


@pytest.mark.parametrize("data", [b'a"\n', b'a,"b\n', b'5",a\n6",b\n', b'a,b"c"\n', b'a, "b"\n', b'x,5","a\nb"\n'])
def test_quotes_elsewhere_are_refused(data: bytes) -> None:
    with pytest.raises(BordersError):
        CSV.check(data)


def test_blocks_of_a_large_range_are_checked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frazil_functions.text_ranges._CHECKED_BYTES", 3)
    CSV.check(b'a,"b\nc\nd\ne"\nf,"g"\n' * 5)
    with pytest.raises(BordersError):
        CSV.check(b'a,"b\nc\nd\ne"\nf,g"\n' * 5)


def test_file_in_memory_holds_the_range_behind_the_names(tmp_path: Path) -> None:
    (tmp_path / "0.csv").write_bytes(b'skipped\na,b\n1,"x"\n2,"y\n"\n3,z')
    split = Split(path=str(tmp_path / "0.csv"), offset=0, rows=0, start=18, length=11, header=b"a,b\n")
    with RangeFile(split, CSV) as file:
        file.fill(None)
        assert pl.read_csv(file.path).to_dicts() == [{"a": 2, "b": "y\n"}, {"a": 3, "b": "z"}]
        assert file.lines == 3
    assert not Path(file.path).exists()
