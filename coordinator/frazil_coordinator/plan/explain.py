"""A stage graph for people: as text, and as values for the API."""

from __future__ import annotations

from frazil_coordinator.plan.model import ExchangeSource, InlineSource, ScanSource, Source, Stage, StageGraph

__all__ = ["explain_json", "explain_text"]


def explain_text(graph: StageGraph) -> str:
    """Return the stages as text, the root first, each with its inputs under it.

    A stage that several stages read is written once, where it is first read.
    """
    lines: list[str] = []
    written: set[int] = set()

    def write(stage: Stage, depth: int) -> None:
        indent = "  " * depth
        if stage.id in written:
            lines.append(f"{indent}STAGE {stage.id} (above)")
            return
        written.add(stage.id)
        head = f"STAGE {stage.id} {stage.kind} · {_plural(stage.tasks, 'task')} · {stage.distribution}"
        lines.append(f"{indent}{head} → {_output(stage)}")
        lines.extend(f"{indent}  {operator}" for operator in reversed(stage.operators))
        lines.extend(f"{indent}  [{name}: {value}]" for name, value in stage.details.items())
        lines.extend(f"{indent}  ! one task: {reason}" for reason in stage.fallbacks)
        for source in stage.sources:
            if isinstance(source, ExchangeSource):
                write(graph.stages[source.stage], depth + 1)
            else:
                lines.append(f"{indent}  {_source(source)}")

    write(graph.root, 0)
    return "\n".join(lines)


def explain_json(graph: StageGraph) -> dict[str, object]:
    """Return the stages as JSON-able values: ``{"stages": [...], "fallbacks": [...]}``."""
    return {
        "stages": [
            {
                "stage": stage.id,
                "kind": stage.kind,
                "tasks": stage.tasks,
                "distribution": stage.distribution,
                "output": {"kind": stage.output.kind, "partitions": stage.output.partitions},
                "operators": list(stage.operators),
                "sources": [_source_json(source) for source in stage.sources],
                "fallbacks": list(stage.fallbacks),
                "details": dict(stage.details),
            }
            for stage in graph.stages
        ],
        "fallbacks": list(graph.fallbacks),
    }


def _output(stage: Stage) -> str:
    spec = stage.output
    return f"{spec.kind}({spec.partitions})" if spec.kind == "hash" else spec.kind


def _source(source: Source) -> str:
    if isinstance(source, ScanSource):
        splits = sum(len(group) for group in source.splits)
        size = f"{source.bytes / 1e6:,.1f} MB"
        return f"← {source.path}: {_plural(source.files, 'file')}, {_plural(splits, 'split')}, {size} compressed"
    if isinstance(source, InlineSource):
        return f"← frame of {_plural(source.rows, 'row')}"
    return f"← stage {source.stage} ({source.read})"


def _source_json(source: Source) -> dict[str, object]:
    if isinstance(source, ScanSource):
        return {
            "table": source.path,
            "files": source.files,
            "splits": sum(len(group) for group in source.splits),
            "bytes": source.bytes,
        }
    if isinstance(source, InlineSource):
        return {"frame_rows": source.rows}
    return {"stage": source.stage, "read": source.read}


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
