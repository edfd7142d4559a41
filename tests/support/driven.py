"""What tests of the driver of one query share: queries of every kind of stage, and a log that keeps commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import polars as pl

from frazil_coordinator.schedule.commits import Commit, Decision, TaskCommitted
from frazil_coordinator.schedule.messages import AttemptRef

__all__ = ["KINDS", "KeptLog", "queries"]


@dataclass
class KeptLog:
    """Keeps commits, and says that answers are durable some time later, in their order."""

    commits: list[Commit] = field(default_factory=list)
    delay_s: float = 0.0
    waiting: list[Callable[[], None]] = field(default_factory=list)
    urgent: set[AttemptRef] = field(default_factory=set)
    """Answers that others wait for."""

    def note(self, commit: Decision) -> None:
        self.commits.append(commit)

    def commit(self, commit: TaskCommitted, then: Callable[[], None], *, urgent: bool) -> None:
        self.commits.append(commit)
        self.waiting.append(then)
        self.urgent |= {commit.ref} if urgent else set()
        asyncio.get_running_loop().call_later(self.delay_s, self._durable)

    def _durable(self) -> None:
        self.waiting.pop(0)()


def queries(facts: pl.LazyFrame, names: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    """Return queries over facts of keys and numbers and a table of names, by what they are made of."""
    few = names.filter(pl.col("name").str.ends_with("3")).unique("name")
    return {
        "whole groups": facts.group_by("k").agg(pl.col("x").median(), n=pl.col("x").n_unique()).sort("k"),
        "two steps": facts.group_by("k").agg(pl.col("x").sum()).sort("k"),
        "a join whose sides may be filtered and switched": facts.join(few, on="k").sort("x", "name"),
        "a skewed join": facts.join(names, on="k").group_by("name").agg(pl.col("x").max()).sort("name"),
        "a sort": facts.sort("x", descending=True),
        "first rows": facts.filter(pl.col("x") > 20).head(7),
        "a union": pl.concat([facts.select("k"), names.select("k")]).unique().sort("k"),
        "a window": facts.with_columns(m=pl.col("x").max().over("k")).sort("x"),
    }


KINDS = tuple(queries(pl.LazyFrame({"k": [0], "x": [0.0]}), pl.LazyFrame({"k": [0], "name": [""]})))
