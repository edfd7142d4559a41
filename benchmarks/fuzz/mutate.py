"""Mutations of serialised plans: of their bytes, and of the MessagePack in them. Deterministic by seed.

Next: :mod:`benchmarks.fuzz.judge` does with them what the coordinator does.
"""

# ruff: noqa: ARG001  # all mutations are called alike

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import msgspec
import polars as pl

from frazil_functions.arena import plan_header

__all__ = ["Yard", "corpus", "mutated"]

_ENCODER: Final = msgspec.msgpack.Encoder()
_INTERESTING: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xf0",
    b"\xc1",
)
"""Headers of huge arrays, maps, texts and bytes, and the one byte that MessagePack has no meaning for."""

_VALUES: Final[tuple[object, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 - 1, -(2**63), 1.5, float("nan"), float("inf"), "", "x", "\0", b"",
    b"\x80\x04.", [], {}, [[]],
    {"": None}, {"idx": 1, "version": 1}, {"idx": [], "version": {}}, {"idx": 2**63, "version": 0}, [1] * 300,
)  # fmt: skip

Tree: TypeAlias = Any
"""What MessagePack decodes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yard:
    """Two folders: plans may read and write one of them."""

    allowed: Path
    outside: Path

    @classmethod
    def made(cls, folder: Path) -> Yard:
        """Make the folders, and tables in both."""
        yard = cls(allowed=folder / "allowed", outside=folder / "outside")
        frame = pl.DataFrame({"k": [1, 2, 3, 4], "v": [1.5, 2.5, None, 4.5], "s": ["a", "b", "a", "c"]})
        for place in (yard.allowed, yard.outside):
            place.mkdir()
            frame.write_parquet(place / "t.parquet")
            frame.write_ipc(place / "t.arrow")
            frame.write_csv(place / "t.csv")
            frame.write_ndjson(place / "t.ndjson")
        return yard

    def paths_out(self) -> list[str]:
        """Return ways to say a file outside of the allowed folder."""
        out, name = str(self.outside), self.outside.name
        return [
            f"{out}/t.parquet", f"{out}/*.parquet", f"{out}/", f"file://{out}/t.parquet", f"file:{out}/t.csv",
            f"{self.allowed}/../{name}/t.parquet", f"{self.allowed}/%2e%2e/{name}/t.parquet",
            f"{self.allowed}/.*/{name}/t.csv", f"FILE://{self.allowed}/..%2f{name}/t.parquet", f"../{name}/t.csv",
            "/etc/passwd", f"{self.allowed}-2/t.parquet",
            f"SELECT * FROM read_parquet('{out}/t.parquet')", f"{self.allowed}\\..\\{name}\\t.csv",
            f"{self.allowed}/{{..}}/{name}",
        ]  # fmt: skip


def corpus(yard: Yard) -> list[bytes]:
    """Return real plans that read and write the allowed folder only."""
    at = yard.allowed
    t, c = pl.scan_parquet(at / "t.parquet"), pl.scan_csv(at / "t.csv")
    i, n = pl.scan_ipc(at / "t.arrow"), pl.scan_ndjson(at / "t.ndjson")
    frame = pl.LazyFrame({"k": [1, 2], "x": [[1], [2, 3]]})
    queries = [
        t.filter(pl.col("v") > 2).select("k", pl.col("s").str.to_uppercase()),
        t.group_by("s").agg(pl.col("v").sum(), pl.len()).sort("s").head(2),
        t.join(c, on="k", how="left").with_columns(pl.col("v").mean().over("s")),
        pl.concat([t, i, n]).unique("s").sort("v", descending=True),
        frame.explode("x").join(t, on="k"),
        t.sql("SELECT s, SUM(v) AS v FROM self GROUP BY s"),
        t.with_row_index().slice(1, 2),
        c.group_by("s").agg(pl.col("k").sort_by("v").first()),
        t.select(pl.when(pl.col("k") > 1).then(pl.col("v")).otherwise(None).rolling_mean(2)),
        pl.concat([t, frame], how="diagonal"),
        t.join_asof(i.sort("k"), on="k"),
        t.sink_parquet(at / "out.parquet", lazy=True),
        c.sink_csv(pl.PartitionBy(at / "parts", key="s"), lazy=True),
        t.unpivot(index="s", on=["k", "v"]),
        t.cache().select(pl.col("v").quantile(0.5)),
    ]
    return [query.serialize() for query in queries]


def mutated(plans: Sequence[bytes], yard: Yard, seed: str) -> bytes:
    """Return a mutation of one of `plans`; the same one for the same seed."""
    source = random.Random(seed)
    plan = source.choice(plans)
    for _ in range(source.choice((1, 1, 1, 2, 3))):
        if len(plan) < 2:
            break
        plan = source.choice(_MUTATIONS)(plan, plans, yard, source)
    return plan


def _flip(plan: bytes, plans: Sequence[bytes], yard: Yard, source: random.Random) -> bytes:
    data = bytearray(plan)
    for _ in range(source.randint(1, 6)):
        # The header is the same for all: mostly, it is what comes after that is interesting.
        at = source.randrange(0 if source.random() < 0.05 else min(len(plan_header()), len(data) - 1), len(data))
        data[at] ^= 1 << source.randrange(8)
    return bytes(data)


def _splice(plan: bytes, plans: Sequence[bytes], yard: Yard, source: random.Random) -> bytes:
    other = source.choice(plans)
    start = source.randrange(len(plan_header()), len(other))
    piece = other[start : start + source.randint(1, 200)]
    at = source.randrange(len(plan_header()), max(len(plan), len(plan_header()) + 1))
    return plan[:at] + piece + plan[at + source.choice((0, len(piece))) :]


def _cut(plan: bytes, plans: Sequence[bytes], yard: Yard, source: random.Random) -> bytes:
    return (
        plan[: source.randrange(len(plan))]
        if source.random() < 0.5
        else plan + bytes(source.randrange(256) for _ in range(9))
    )


def _insert(plan: bytes, plans: Sequence[bytes], yard: Yard, source: random.Random) -> bytes:
    at = source.randrange(min(len(plan_header()), len(plan) - 1), len(plan))
    piece = source.choice(_INTERESTING)
    return plan[:at] + piece + plan[at + source.choice((0, 1, len(piece))) :]


def _of_tree(change: Callable[[Tree, Tree, Yard, random.Random], Tree]) -> Callable[..., bytes]:
    """Make a mutation of a decoded plan one of bytes; what can't be decoded any more is left as it is."""

    def mutate(plan: bytes, plans: Sequence[bytes], yard: Yard, source: random.Random) -> bytes:
        other = msgspec.msgpack.decode(source.choice(plans)[len(plan_header()) :])
        try:
            tree = msgspec.msgpack.decode(plan[len(plan_header()) :])
            return plan[: len(plan_header())] + _ENCODER.encode(change(tree, other, yard, source))
        except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError):
            return (
                plan  # an earlier mutation has left what is no plan, or can't be read: msgspec's errors are of these kinds
            )

    return mutate


def _places(tree: Tree) -> list[tuple[Tree, Any]]:
    """Return every place in a tree that holds a value: its holder, and the key or index."""
    found: list[tuple[Tree, Any]] = []
    stack = [tree]
    while stack:
        holder = stack.pop()
        if isinstance(holder, dict):
            found += [(holder, key) for key in holder]
            stack += holder.values()
        elif isinstance(holder, list) and len(holder) < 500:
            found += [(holder, index) for index in range(len(holder))]
            stack += holder
    return found


def _replace(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    holder, key = source.choice(_places(tree))
    if source.random() < 0.5:
        there, which = source.choice(_places(other))
        holder[key] = there[which]
    else:
        holder[key] = source.choice(_VALUES)
    return tree


def _reshape(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    holder, key = source.choice(_places(tree))
    if isinstance(holder, dict):
        value = holder.pop(key)
        if source.random() < 0.5:
            holder[source.choice(("idx", "input", "inputs", "x", "", "Scan", "df"))] = value
    else:
        holder.insert(key, holder[key])
    return tree


def _nest(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    holder, key = source.choice(_places(tree))
    value = holder[key]
    for _ in range(source.choice((50, 400, 900, 3000))):
        value = source.choice(([value], {"Alias": [value, "x"]}, {"input": value}, {"Not": value}))
    holder[key] = value
    return tree


def _point(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    """Let a reference point to another node, maybe to one that holds it."""
    references = [holder for holder, key in _places(tree) if key == "idx"]
    for holder in source.sample(references, min(len(references), source.randint(1, 3))):
        holder["idx"] = source.randrange(0, len(tree["dsl_plans"]) + 1)
    return tree


def _laugh(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    """Let each of many nodes read the one before twice."""
    last = tree["root"]
    for _ in range(source.choice((8, 30, 64))):
        inputs = [last, last]
        node = source.choice(
            (
                {"HConcat": {"inputs": inputs, "options": {"parallel": True, "strict": False}}},
                {"MergeSorted": {"input_left": last, "input_right": last, "key": "k"}},
                {"ExtContext": {"input": last, "contexts": inputs}},
            )
        )
        tree["dsl_plans"].append({"value": node, "version": 1})
        last = {"idx": len(tree["dsl_plans"]) - 1, "version": 1}
    tree["root"] = last
    return tree


def _lead_out(tree: Tree, other: Tree, yard: Yard, source: random.Random) -> Tree:
    """Put a path outside of the allowed folder in the place of a text."""
    texts = [(holder, key) for holder, key in _places(tree) if isinstance(holder[key], str)]
    inside = [(holder, key) for holder, key in texts if str(yard.allowed) in holder[key]]
    holder, key = source.choice(inside if inside and source.random() < 0.6 else texts)
    holder[key] = source.choice(yard.paths_out())
    return tree


_MUTATIONS: Final = (
    _flip, _splice, _cut, _insert, _of_tree(_replace), _of_tree(_replace), _of_tree(_reshape), _of_tree(_nest),
    _of_tree(_point), _of_tree(_laugh), _of_tree(_lead_out), _of_tree(_lead_out),
)  # fmt: skip
