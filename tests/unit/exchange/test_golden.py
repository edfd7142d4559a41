"""Objects that old versions wrote are read for ever.

``tests/golden/exchange/v<n>/<codec>.frzx`` was written by version n of the format and is never written again. After a
change of the format, ``python tests/unit/exchange/test_golden.py --regenerate`` writes a folder for the new version beside
the old ones.
"""

from __future__ import annotations

import datetime as dt
import decimal
import sys
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from frazil_functions.exchange.format import VERSION, block_refs, read_footer
from frazil_functions.exchange.reader import read_exchange
from frazil_functions.exchange.writer import ExchangeWriter
from frazil_functions.storage import FolderStore
from frazil_functions.task import Codec, ExchangeInput, Output, SortKey

GOLDEN = Path(__file__).parents[2] / "golden" / "exchange"
MAP_INDEX = 7
BLOCKS = 3


def golden_frame() -> pl.DataFrame:
    """Return what is in every golden object; it never changes."""
    return pl.DataFrame(
        {
            "id": pl.Series([1, 2, 3, 4, 5, 6], dtype=pl.Int64),
            "small": pl.Series([1, None, 3, 4, 5, 6], dtype=pl.UInt8),
            "ratio": [0.5, float("nan"), -0.0, None, 1e300, 2.0],
            "text": ["", "a", None, "longer than twelve bytes", "ü", "z"],
            "raw": [b"", b"\x00\xff", None, b"x", b"y", b"z"],
            "flag": [True, False, None, True, True, False],
            "day": [dt.date(2020, 2, 29), None, *[dt.date(1999, 12, 31)] * 4],
            "time": [dt.time(23, 59, 59, 999999), None, *[dt.time(0)] * 4],
            "moment": pl.Series([0, None, 2, 3, 4, 5]).cast(pl.Datetime("ns", "Europe/Paris")),
            "span": pl.Series([-1, None, 2, 3, 4, 5]).cast(pl.Duration("ms")),
            "money": pl.Series([decimal.Decimal("1.25"), None] * 3, dtype=pl.Decimal(12, 2)),
            "colour": pl.Series(["red", "blue", None] * 2, dtype=pl.Categorical),
            "size": pl.Series(["s", "l", None] * 2, dtype=pl.Enum(["s", "m", "l"])),
            "list": pl.Series([[1, None], [], None] * 2, dtype=pl.List(pl.Int32)),
            "pair": pl.Series([[1, 2], [3, None], None] * 2, dtype=pl.Array(pl.Int16, 2)),
            "tree": pl.Series([{"a": [{"b": "x"}]}, {"a": []}, None] * 2),
            "wide": pl.Series([2**100, None, -(2**100)] * 2, dtype=pl.Int128),
            "nothing": pl.Series([None] * 6, dtype=pl.Null),
        }
    )


def golden_files() -> list[Path]:
    """Return every golden object of every version."""
    return sorted(GOLDEN.glob("v*/*.frzx"))


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_object_is_read(path: Path) -> None:
    store = FolderStore(path.parent)
    footer = read_footer(store, path.name)
    assert (footer.kind, footer.map_index, footer.rows) == ("range", MAP_INDEX, 6)
    assert {block.codec for block in footer.infos()} == {path.stem}
    assert [(block.partition, block.rows) for block in footer.infos()] == [(0, 2), (1, 2), (2, 2)]
    assert all(block.low for block in footer.infos())
    blocks = block_refs(footer.descriptor(path.name), MAP_INDEX)
    found = pl.concat(read_exchange(store, ExchangeInput(blocks=blocks)))
    assert found.schema == golden_frame().schema
    assert_frame_equal(found, golden_frame(), check_exact=True)


def test_the_current_version_has_a_golden_object_for_each_codec() -> None:
    assert {path.stem for path in golden_files() if path.parent.name == f"v{VERSION}"} == set(get_args(Codec))


def regenerate() -> None:
    """Write the objects of the current version that there are none of yet: golden objects are never written again."""
    folder = GOLDEN / f"v{VERSION}"
    for codec in get_args(Codec):
        if (folder / f"{codec}.frzx").exists():
            continue
        output = Output(
            kind="range",
            partitions=BLOCKS,
            sort_keys=(SortKey(column="id", descending=False, nulls_last=False),),
            codec=codec,
            inline_limit_bytes=0,
        )
        writer = ExchangeWriter(output, store=FolderStore(folder), key=f"{codec}.frzx", map_index=MAP_INDEX)
        writer.write(golden_frame())
        writer.finish()


if __name__ == "__main__":
    if sys.argv[1:] != ["--regenerate"]:
        raise SystemExit("usage: test_golden.py --regenerate")
    regenerate()
