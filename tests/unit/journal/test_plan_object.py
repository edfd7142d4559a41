"""The form of a plan object: what is shared, what is refused, and that version 1 is read for ever.

``tests/golden/journal/plan-v<n>.bin`` was written by version n of the format and is never written again. After a change of
the format, ``python tests/unit/journal/test_plan_object.py --regenerate`` writes one of the new version beside the old ones.
"""

from __future__ import annotations

import math
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import google_crc32c
import msgspec
import polars as pl
import pyarrow as pa
import pytest

from frazil_coordinator.journal.plan_codec import MAGIC, VERSION, PlannedQuery, decode_plan, encode_plan
from frazil_coordinator.plan.figures import Amount, StageEstimate
from frazil_coordinator.plan.footers import Footer, ParquetFooter, RowGroup, uncounted
from frazil_coordinator.plan.model import (
    ExchangeSource,
    ExchangeSpec,
    InlineSource,
    RuntimeFilter,
    ScanSource,
    Sink,
    Stage,
    StageGraph,
    Switch,
)
from frazil_coordinator.plan.report import Measured, planned_report
from frazil_coordinator.plan.tables import Table
from frazil_functions.errors import JournalError
from frazil_functions.ids import StageId
from frazil_functions.scan_files import FileStat
from frazil_functions.task import BlockRef, SortKey, Split

GOLDEN = Path(__file__).parents[2] / "golden" / "journal"
GOLDEN_POLARS = {1: "2.1.0"}

SCHEMA = pl.Schema(
    {
        **{
            f"plain {dtype}": dtype() for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.Float16, pl.Float32)
        },
        **{f"plain {dtype}": dtype() for dtype in (pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.UInt128, pl.Float64)},
        **{f"plain {dtype}": dtype() for dtype in (pl.Binary, pl.Boolean, pl.Date, pl.Time, pl.String, pl.Null)},
        "zone": pl.Datetime("ns", "Europe/Paris"),
        "no zone": pl.Datetime("ms"),
        "span": pl.Duration("us"),
        "money": pl.Decimal(38, 4),
        "enum": pl.Enum(["b", "a", "ü", ""]),
        "empty enum": pl.Enum([]),
        "categories": pl.Categorical(),
        "own categories": pl.Categorical(pl.Categories("fruit", "shop", pl.UInt8)),
        "list": pl.List(pl.List(pl.Enum(["x"]))),
        "array": pl.Array(pl.Int8, (2, 3)),
        "no width": pl.Array(pl.Int8, 0),
        "struct": pl.Struct({"a": pl.Struct({}), "b": pl.List(pl.Datetime("us", "UTC")), "": pl.Null()}),
        "map": pl.Map(pl.String(), pl.List(pl.Decimal(9, 0))),
        "own type": pl.Extension("of.mine", pl.Int32(), "what it means"),
        "": pl.String(),
    }
)


def _table(path: str, count: int) -> Table:
    files = tuple(FileStat(path=f"{path}/{number}", size=10 + number, etag=f'"{number}"') for number in range(count))
    footers = tuple(
        Footer(
            row_groups=tuple(RowGroup(rows=5, bytes={"a": 7, "b": 9}, first=5 * group, number=group) for group in range(2)),
            schema=b"a schema",
            columns={"a": 0, "b": 1},
            pruned_groups=1,
            pruned_rows=3,
            parquet=ParquetFooter(data=b"footer %d PAR1" % number),
        )
        for number in range(count)
    )
    scan: dict[str, object] = {"Scan": {"a": [1, -(2**63), 2**64 - 1, None, True, 0.5, "ü", b"\x00", [], {}]}}
    return Table(
        scan=scan, files=files, footers=footers, schema=SCHEMA, path=path, most=4, row_index=("n", 3), scan_type=b"type"
    )


def golden_plan() -> PlannedQuery:
    """Return what is in every golden object; it never changes."""
    table = _table("s3://bucket/t", 2)
    text = replace(table, footers=tuple(uncounted(file) for file in table.files), row_index=None)
    block = BlockRef(key="", offset=0, length=3, rows=1, crc32c=7, codec="ipc_zstd", map_index=0, data=b"abc")
    lines = Split(path="t.csv", offset=0, rows=0, size=9, start=4, length=5, header=b"a,b\n", etag="e", hive_start=2)
    rows = Split(path="t.parquet", offset=3, rows=4, whole=True, rows_before=8)
    amount = Amount(value=2**70, bound="at_most")
    estimate = StageEstimate(
        rows_in=amount,
        rows_out=Amount(value=-1, bound="unknown"),
        bytes_scanned=Amount(value=3, bound="about"),
        bytes_in=amount,
        bytes_out=amount,
        memory_bytes=2**64,
        memory_limit_bytes=None,
        scan_gets=amount,
        gets=amount,
        puts=amount,
        function_seconds=math.inf,
        dollars=-0.0,
    )
    first = Stage(
        id=StageId(0),
        kind="scan",
        fragment=b"fragment 0",
        sources=(
            ScanSource(splits=((rows, lines), ()), path="t", scan_type=b"type", pruned={"files": 3}, table=table),
            ScanSource(splits=((lines,),), table=text),
            InlineSource(blocks=((block,), (block, block)), rows=3),
        ),
        tasks=2,
        output=ExchangeSpec(kind="hash", partitions=3, hash_keys=(b"key",), key_columns=("a",), row_tag=True, inline=False),
        divisible=frozenset({2, 0}),
        details={"pushed": "a"},
        unaggregated=b"fragment 0",
        filters=(RuntimeFilter(source=0, column="a", build=StageId(0), key="b", waits=True, table=table),),
        switch=Switch(join=StageId(1), source=1, small=(StageId(0),)),
        notes=("changed",),
        first_rows=5,
    )
    second = Stage(
        id=StageId(1),
        kind="join",
        fragment=b"fragment 1",
        sources=(ExchangeSource(stage=StageId(0), read="partition", first_task=1, tasks=2, partitions="skewed"),),
        tasks=3,
        output=ExchangeSpec(kind="range", sort_keys=(SortKey(column="a", descending=True, nulls_last=False),), final=True),
        operators=("JOIN", "SORT"),
        fallbacks=("a reason",),
        combiner=StageId(0),
        reserve=True,
        units=7,
    )
    sink = Sink(
        node=b"node", kind="partitioned", format="Csv", target="t", store="s3://b", base="", folder="x", name="n",
        local=True, cloud_options={"config": {"Aws": [["AccessKeyId", "me"]]}},
    )  # fmt: skip
    graph = StageGraph(stages=(first, second), schema=SCHEMA, estimates=(estimate, estimate), sink=sink)
    measured = Measured(
        tasks=1, attempts=2, rows_in=3, rows_out=4, bytes_scanned=5, bytes_in=6, bytes_out=7, memory_bytes=8,
        requests={"get": 9}, seconds=0.5, function_seconds=1.5, dollars=0.25, cold_starts=1, adaptations=("joined",),
    )  # fmt: skip
    return PlannedQuery(graph=graph, report=msgspec.structs.replace(planned_report(graph), measured=measured))


def _write(plan: PlannedQuery) -> bytes:
    return encode_plan(plan.graph, plan.report)


# Versions


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("plan-v*.bin")), ids=lambda path: path.stem)
def test_a_golden_plan_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl, "__version__", GOLDEN_POLARS[int(path.stem.removeprefix("plan-v"))])
    read = decode_plan(path.read_bytes())
    assert read == golden_plan()
    assert repr(read) == repr(golden_plan())


def test_the_current_version_has_a_golden_plan() -> None:
    assert (GOLDEN / f"plan-v{VERSION}.bin").exists()


def test_another_version_says_what_to_do() -> None:
    data = bytearray(_write(golden_plan()))
    data[8] += 1
    with pytest.raises(
        JournalError, match="version 2, and this coordinator reads version 1: let a coordinator of the version"
    ):
        decode_plan(bytes(data))


def test_a_plan_of_another_polars_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl, "__version__", "2.0.9")
    data = _write(golden_plan())
    monkeypatch.undo()
    with pytest.raises(
        JournalError, match=r"a plan of polars 2\.0\.9, and this coordinator has polars .*submit the query again"
    ):
        decode_plan(data)


# Values


def test_every_dtype_comes_back() -> None:
    read = decode_plan(_write(golden_plan())).graph.schema
    assert read == SCHEMA
    assert list(read) == list(SCHEMA)
    assert {name: repr(dtype) for name, dtype in read.items()} == {name: repr(dtype) for name, dtype in SCHEMA.items()}
    assert all(not isinstance(dtype, type) for dtype in read.values())


def test_a_type_of_the_users_comes_back_as_its_class() -> None:
    class Mine(pl.BaseExtension):
        pass

    pl.register_extension_type("of.mine", Mine)
    try:
        schema = pl.Schema({"a": Mine("of.mine", pl.Int32(), "meta")})
        read = decode_plan(encode_plan(replace(golden_plan().graph, schema=schema), None)).graph.schema
        assert type(read["a"]) is Mine
        assert read == schema
    finally:
        pl.unregister_extension_type("of.mine")


@pytest.mark.parametrize("dtype", [pl.Object(), pl.List(pl.Object()), pl.Struct({"x": pl.Object()}), pl.Unknown()])
def test_python_objects_are_refused_when_the_plan_is_written(dtype: pl.DataType) -> None:
    graph = replace(golden_plan().graph, schema=pl.Schema({"thing": dtype}))
    with pytest.raises(JournalError, match=r"'thing' has the dtype (Object|Unknown).*cast the column"):
        encode_plan(graph, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 5e-324, -0.0])
def test_floats_come_back_bit_by_bit(value: float) -> None:
    graph = golden_plan().graph
    changed = replace(graph, estimates=tuple(replace(one, dollars=value) for one in graph.estimates))
    assert repr(decode_plan(encode_plan(changed, None)).graph) == repr(changed)


def test_a_mapping_that_is_no_dict_is_written_as_one() -> None:
    graph = golden_plan().graph
    changed = replace(graph, stages=tuple(replace(one, details=MappingProxyType({"a": "b"})) for one in graph.stages))
    assert [stage.details for stage in decode_plan(encode_plan(changed, None)).graph.stages] == [{"a": "b"}] * 2


@pytest.mark.parametrize("value", [(1, 2), {1.5: 2}, {True: 2}, object(), {"a": [{"b": {1, 2}}]}])
def test_what_would_not_come_back_from_a_decoded_plan_is_refused(value: object) -> None:
    graph = golden_plan().graph
    assert graph.sink is not None
    with pytest.raises(JournalError, match="the plan can't be kept in the journal: it has a"):
        encode_plan(replace(graph, sink=replace(graph.sink, cloud_options=value)), None)


def test_a_value_of_the_wrong_type_is_refused_before_it_is_written() -> None:
    graph = golden_plan().graph
    wrong = replace(graph, stages=(replace(graph.stages[0], tasks="two"),))  # type: ignore[arg-type]  # on purpose
    with pytest.raises(JournalError, match="Expected `int`, got `str`"):
        encode_plan(wrong, None)


# Shared values


def test_what_is_shared_is_written_once_and_one_object_again() -> None:
    graph = decode_plan(_write(golden_plan())).graph
    scans = [source for source in graph.stages[0].sources if isinstance(source, ScanSource)]
    (table, text), (one,) = [scan.table for scan in scans], graph.stages[0].filters
    assert table is one.table
    assert table is not None
    assert text is not None
    assert table is not text
    assert table.scan is text.scan
    assert table.schema is text.schema is graph.schema
    assert all(a is b for a, b in zip(table.files, text.files, strict=True))
    inline = next(source for source in graph.stages[0].sources if isinstance(source, InlineSource))
    assert len({id(block) for blocks in inline.blocks for block in blocks}) == 1
    assert graph.stages[0].fragment is graph.stages[0].unaggregated


def test_a_table_that_ten_stages_share_takes_the_room_of_one() -> None:
    def sized(stages: int) -> int:
        table = _table("s3://bucket/t", 500)
        graph = golden_plan().graph
        scan = replace(graph.stages[0], sources=(ScanSource(splits=((),), table=table),), filters=())
        return _body_bytes(encode_plan(replace(graph, stages=(scan,) * stages), None))

    assert sized(10) < sized(1) * 1.05


def test_a_table_of_10_000_files_is_written_and_read_in_well_under_a_second() -> None:
    """Of CPU: other processes may run on the machine. Ten times what it takes on an idle core."""
    graph = golden_plan().graph
    splits = tuple(
        (Split(path=f"s3://bucket/t/{number}", offset=0, rows=10, whole=True, size=10, etag=f'"{number}"'),)
        for number in range(10_000)
    )
    source = ScanSource(splits=splits, table=_table("s3://bucket/t", 10_000))
    graph = replace(graph, stages=(replace(graph.stages[0], sources=(source,), filters=()),))
    start = time.process_time()
    data = encode_plan(graph, None)
    written = time.process_time()
    read = decode_plan(data).graph
    done = time.process_time()
    assert read == graph
    assert written - start < 3
    assert done - written < 3
    assert len(data) < 2_000_000


# Damage


def test_every_changed_byte_is_noticed() -> None:
    data = _write(golden_plan())
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0x40
        with pytest.raises(JournalError):
            decode_plan(bytes(changed))


def test_a_plan_that_is_cut_off_is_noticed() -> None:
    data = _write(golden_plan())
    for length in (*range(40), len(data) - 1):
        with pytest.raises(JournalError):
            decode_plan(data[:length])


def _body(data: bytes) -> list[object]:
    _, _, length, _, size = HEADER.unpack_from(data)
    packed = data[HEADER.size + length :]
    found: list[object] = msgspec.msgpack.decode(pa.decompress(packed, decompressed_size=size, codec="zstd", asbytes=True))
    return found


def _body_bytes(data: bytes) -> int:
    return int(HEADER.unpack_from(data)[4])


HEADER = struct.Struct("<8sHHIQ")


def _object(body: object) -> bytes:
    """Return a plan object with a body of one's own, as the page specifies it."""
    encoded, polars = msgspec.msgpack.encode(body), pl.__version__.encode()
    rest = struct.pack("<Q", len(encoded)) + polars + pa.compress(encoded, codec="zstd", asbytes=True)
    return MAGIC + struct.pack("<HHI", VERSION, len(polars), google_crc32c.value(rest)) + rest


def test_the_bytes_are_those_that_the_page_specifies() -> None:
    plan = golden_plan()
    assert decode_plan(_object(_body(_write(plan)))) == plan


def test_an_unknown_a_missing_and_a_renamed_field_are_refused() -> None:
    for changed in (["path", "size", "etag", "colour"], ["path", "size"], ["path", "length", "etag"]):
        body = _body(_write(golden_plan()))
        names = body[0]
        assert isinstance(names, dict)
        names["FileStat"] = changed
        with pytest.raises(JournalError, match=f"FileStat has the fields {', '.join(changed)}, and not path, size, etag"):
            decode_plan(_object(body))


def test_a_class_that_is_not_on_the_list_is_refused() -> None:
    body = _body(_write(golden_plan()))
    names = body[0]
    assert isinstance(names, dict)
    names["os.system"] = ["command"]
    with pytest.raises(JournalError, match=r"os\.system has the fields command, and not of any class that is known"):
        decode_plan(_object(body))


@pytest.mark.parametrize("change", [lambda row: row.append(1), lambda row: row.pop(), lambda row: row.insert(0, row.pop(1))])
def test_a_row_of_another_form_is_refused(change: Callable[[list[object]], object]) -> None:
    body = _body(_write(golden_plan()))
    files = body[4]
    assert isinstance(files, list)
    change(files[0])
    with pytest.raises(JournalError, match="not a plan object"):
        decode_plan(_object(body))


@pytest.mark.parametrize("number", [-1, 10_000])
def test_a_reference_to_nothing_is_refused(number: int) -> None:
    body = _body(_write(golden_plan()))
    tables = body[8]
    assert isinstance(tables, list)
    tables[0][0] = number
    with pytest.raises(JournalError, match="not a plan object"):
        decode_plan(_object(body))


@pytest.mark.parametrize("dtype", [["Object"], ["Int8", 1], ["Datetime"], ["List", ["?"]], [], ["Enum", ["a", "a"]]])
def test_a_dtype_that_is_none_is_refused(dtype: list[object]) -> None:
    body = _body(_write(golden_plan()))
    body[3] = [[["a", dtype]]]
    with pytest.raises(JournalError, match="not a plan object"):
        decode_plan(_object(body))


def regenerate() -> None:
    """Write the plan of the current version unless there is one: golden plans are never written again."""
    path = GOLDEN / f"plan-v{VERSION}.bin"
    if not path.exists():
        path.write_bytes(_write(golden_plan()))


if __name__ == "__main__":
    if sys.argv[1:] != ["--regenerate"]:
        raise SystemExit("usage: test_plan_object.py --regenerate")
    regenerate()
