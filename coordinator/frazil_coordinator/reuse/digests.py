"""What a task is made of, as a digest: two tasks of one digest give the same answer, whichever query they are of.

Pure functions over values (docs/reuse.md says what is in a digest and what is left out). A block that a task reads is known
by the object that it lies in: keys name executions and are never used twice, so a task whose input was computed anew, maybe
with its rows in another order, has another digest. Next: :mod:`frazil_coordinator.reuse.kept`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

import msgspec
import polars as pl

from frazil_coordinator.plan.model import InlineSource, ScanSource, Source, Stage, StageGraph
from frazil_coordinator.plan.purity import why_impure
from frazil_functions import PROTOCOL_VERSION
from frazil_functions.arena import Arena
from frazil_functions.errors import PlanError
from frazil_functions.task import BlockRef, ExchangeInput, Output, ScanInput, Split, TaskInput, TaskRequest

__all__ = ["DIGEST_VERSION", "Digests", "Fragment", "TaskDigest", "result_digest"]

DIGEST_VERSION: Final = 1
"""Changes with what a digest is made of: then nothing that was kept before is found any more."""

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_RELEASE: Final = version("frazil")
"""A release may mend what another got wrong."""

_CHARACTERS: Final = 40
"""Hexadecimal digits of a digest: 160 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDigest:
    """What a task is made of."""

    work: str
    """Of what is done: the fragment, and how its output is written. Equal for the tasks of a stage."""

    task: str
    """Of that and of all that is read."""

    ranged: bool = False
    """Whether it reads a range of lines of a text file: then its answer holds only when all tasks of its stage have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """What of a fragment counts."""

    digest: str
    impure: str | None
    """Why its answers may differ; None when they never do."""

    numbered: bool
    """Whether a scan numbers its rows: then it matters how many are before a split."""


class Digests:
    """The digests of the tasks of one query.

    Parameters
    ----------
    is_kept
        Whether the object of a block is one that stays, so that a later query can read the same.
    """

    def __init__(self, is_kept: Callable[[str], bool]) -> None:
        self._is_kept = is_kept
        self._fragments: dict[bytes, Fragment] = {}
        self._inputs: dict[int, tuple[TaskInput, bytes]] = {}
        """By identity: what every task of a stage reads is one value."""

    def of(self, request: TaskRequest, fragment: bytes) -> TaskDigest | None:
        """Return the digest of a task; None when its answer can't be used again.

        Parameters
        ----------
        request
            What it is told. Of it count: inputs, output, the number of the task where its rows are tagged with it.
        fragment
            Its fragment, also when that is sent apart.
        """
        if request.sink is not None:
            return None
        work = self.look_into(fragment)
        if work.impure is not None:
            return None
        own: list[bytes] = []
        for given in request.inputs:
            one = self._input(given, numbered=work.numbered)
            if one is None:
                return None
            own.append(one)
        done = _digest([DIGEST_VERSION, _RELEASE, PROTOCOL_VERSION, pl.__version__, work.digest, _output(request.output)])
        tag = request.task if request.output.row_tag else None
        return TaskDigest(work=done, task=_digest([done, own, tag]), ranged=any(map(_is_ranged, request.inputs)))

    def look_into(self, fragment: bytes) -> Fragment:
        """Return what of a fragment counts; it is looked into once."""
        known = self._fragments.get(fragment)
        if known is None:
            known = self._fragments[fragment] = _look_into(fragment)
        return known

    def _input(self, given: TaskInput, *, numbered: bool) -> bytes | None:
        held = self._inputs.get(id(given))
        if held is not None and held[0] is given:
            return held[1]
        parts = _scan(given, numbered=numbered) if isinstance(given, ScanInput) else self._exchange(given)
        if parts is None:
            return None
        found = hashlib.sha256(_ENCODER.encode(parts)).digest()
        self._inputs[id(given)] = (given, found)
        return found

    def _exchange(self, given: ExchangeInput) -> list[object] | None:
        blocks: list[object] = []
        for block in given.blocks:
            if block.data is None and not self._is_kept(block.key):
                return None
            blocks.append(_block(block))
        return ["exchange", given.key_range, given.sort_keys, given.hash_share, given.predicate, blocks]


def result_digest(graph: StageGraph) -> str | None:
    """Return the digest of a query: of its stages, and of all files and frames that they read.

    None when its result can't be used again: because it writes files, because of what :func:`why_impure` says of a stage, or
    because the etag of a file is not known.
    """
    if graph.sink is not None:
        return None
    digests, stages = Digests(lambda _: False), list[object]()
    for stage in graph.stages:
        fragment = digests.look_into(stage.fragment)
        sources = [_source(source, numbered=fragment.numbered) for source in stage.sources]
        if fragment.impure is not None or any(source is None for source in sources):
            return None
        stages.append([stage.kind, fragment.digest, sources, stage.tasks, stage.first_rows, _written(stage)])
    schema = [[name, repr(dtype)] for name, dtype in graph.schema.items()]
    return _digest([DIGEST_VERSION, _RELEASE, PROTOCOL_VERSION, pl.__version__, stages, schema])


def _source(source: Source, *, numbered: bool) -> list[object] | None:
    if isinstance(source, ScanSource):
        given = [_scan(ScanInput(splits=splits, scan_type=source.scan_type), numbered=numbered) for splits in source.splits]
        return None if any(one is None for one in given) else ["scan", given]
    if isinstance(source, InlineSource):
        return ["inline", [[_block(block) for block in blocks] for blocks in source.blocks]]
    return ["exchange", source.stage, source.read, source.first_task, source.tasks, source.partitions]


def _written(stage: Stage) -> list[object]:
    spec = stage.output
    return [spec.kind, spec.partitions, spec.hash_keys, spec.sort_keys, spec.row_tag, spec.final]


def _look_into(fragment: bytes) -> Fragment:
    if not fragment:  # of a combiner, which copies blocks
        return Fragment(digest="", impure=None, numbered=False)
    try:
        arena = Arena.decode(fragment)
        numbered = any(_numbers_rows(arena, number) for number in arena.reachable())
        return Fragment(digest=arena.digest(), impure=why_impure(arena), numbered=numbered)
    except PlanError as error:
        return Fragment(digest="", impure=f"it can't be looked into: {error.message}", numbered=False)


def _numbers_rows(arena: Arena, number: int) -> bool:
    if arena.kind(number) != "Scan":
        return False
    arguments = arena.payload(number).get("unified_scan_args")
    return not isinstance(arguments, dict) or arguments.get("row_index") is not None


def _scan(given: ScanInput, *, numbered: bool) -> list[object] | None:
    splits: list[object] = []
    for split in given.splits:
        if split.etag is None:
            return None  # whether the file was replaced could not be told
        splits.append(_split(split, numbered=numbered))
    return ["scan", given.scan_type, given.predicate, splits]


def _split(split: Split, *, numbered: bool) -> list[object]:
    rows_before = split.rows_before if numbered else 0
    where = [split.path, split.etag, split.size, split.whole, split.hive_start]
    return [*where, split.offset, split.rows, rows_before, split.start, split.length, split.header]


def _block(block: BlockRef) -> list[object]:
    place = [block.key, block.offset] if block.data is None else [hashlib.sha256(block.data).digest()]
    return [*place, block.length, block.crc32c, block.codec]


def _output(output: Output) -> list[object]:
    """Return how an output is written; not where, and not how much of it may travel inline."""
    what = [output.kind, output.partitions, output.hash_keys, output.sort_keys, output.row_tag, output.codec, output.final]
    return [*what, output.key_columns, output.key_values]


def _is_ranged(given: TaskInput) -> bool:
    return isinstance(given, ScanInput) and any(split.length is not None for split in given.splits)


def _digest(value: object) -> str:
    return hashlib.sha256(_ENCODER.encode(value)).hexdigest()[:_CHARACTERS]
