"""The tables of a module's README, from its files, as terraform-docs lays them out; a test holds each README to them.

``python -m support.terraform_docs`` (``make terraform-docs``) writes them between the two marks of every README.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from support.crd import REPOSITORY
from support.hcl import Module, module_at, plain

__all__ = ["BEGIN", "END", "folders", "tables", "with_tables"]

BEGIN: Final = "<!-- BEGIN_TF_DOCS -->"
END: Final = "<!-- END_TF_DOCS -->"


def folders() -> list[Path]:
    """Return every module and every example."""
    return sorted(path.parent for path in (REPOSITORY / "terraform").glob("*/*/versions.tf"))


def tables(module: Module) -> str:
    """Return requirements, modules, resources, inputs and outputs of a module in Markdown."""
    requirements = [("terraform", module.required_version)]
    requirements += [(name, each["version"]) for name, each in sorted(module.providers.items())]
    calls = module.calls.items()
    sections = [
        _table("Requirements", ("Name", "Version"), requirements),
        _table("Modules", ("Name", "Source"), [(name, plain(each["source"])) for name, each in sorted(calls)]),
        _table("Resources", ("Name", "Type"), sorted(map(_kind, module.resources))),
        _table("Inputs", ("Name", "Description", "Type", "Default", "Required"), _inputs(module)),
        _table(
            "Outputs",
            ("Name", "Description"),
            [(name, plain(each["description"])) for name, each in sorted(module.outputs.items())],
        ),
    ]
    return "\n\n".join(filter(None, sections))


def with_tables(text: str, module: Module) -> str:
    """Return the text of a README with the module's tables between its marks."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"{module.folder}/README.md has no marks {BEGIN} and {END}")
    return f"{text.partition(BEGIN)[0]}{BEGIN}\n{tables(module)}\n{END}{text.partition(END)[2]}"


def _kind(address: str) -> tuple[str, str]:
    first, _, rest = address.partition(".")
    kind = {"data": "data source", "ephemeral": "ephemeral"}.get(first)
    return (address, "resource") if kind is None else (rest, kind)


def _inputs(module: Module) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(plain(each["description"])),
            f"`{_flat(plain(each['type']))}`",
            f"`{_literal(each['default'])}`" if "default" in each else "n/a",
            "no" if "default" in each else "yes",
        )
        for name, each in sorted(module.variables.items())
    ]


def _literal(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        entries = ", ".join(f"{plain(key)} = {_literal(each)}" for key, each in value.items() if not key.startswith("__"))
        return f"{{ {entries} }}" if entries else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return _flat(str(value))


def _flat(value: object) -> str:
    return re.sub(r"\s+", " ", str(value))


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head))]
    lines += [f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join((f"## {title}", "", *lines))


def _write() -> None:
    for folder in folders():
        readme = folder / "README.md"
        text = with_tables(readme.read_text(), module_at(folder))
        if text != readme.read_text():
            readme.write_text(text)
            sys.stdout.write(f"{readme.relative_to(REPOSITORY)}\n")


if __name__ == "__main__":
    _write()
