"""Terraform's files read without terraform: what a module declares, and what its expressions refer to.

By ``python-hcl2``, for modules whose providers are not on this machine, and for the tables of every README
(:mod:`support.terraform_docs`). It knows the shape of a configuration, not what a provider would say to it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import hcl2

__all__ = ["Block", "Module", "module_at", "plain"]

Block: TypeAlias = "dict[str, Any]"

_BUILT_IN: Final = frozenset({"each", "count", "self", "path", "terraform"})
_EXPRESSION: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|(?<![\w.\]])([a-z][a-z0-9_]*)\.([a-z][a-z0-9_-]*)(?:\.([a-z][a-z0-9_-]*))?'
)
_INSIDE: Final = re.compile(r"\$\{((?:[^{}]|\{[^{}]*\})*)\}")


def plain(value: Any) -> Any:
    """Return a value without the quotes and the ``${}`` that the reader leaves on it."""
    if not isinstance(value, str):
        return value
    if value.startswith('"') and value.endswith('"'):
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value[2:-1] if value.startswith("${") and value.endswith("}") else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A folder of Terraform's files."""

    folder: Path
    variables: dict[str, Block]
    outputs: dict[str, Block]
    resources: dict[str, Block]
    """By address: ``aws_s3_bucket.this``, ``data.aws_region.here``, ``ephemeral.random_password.secret``."""

    calls: dict[str, Block]
    """Modules that it calls, by name."""

    locals: dict[str, Any]
    providers: dict[str, Block]
    """Required providers, by local name: ``source`` and ``version``."""

    required_version: str
    configured: frozenset[str]
    """Providers that it configures."""

    def required(self) -> set[str]:
        """Return the variables without a default."""
        return {name for name, block in self.variables.items() if "default" not in block}

    def called(self, name: str) -> Module:
        """Return the module that a call names."""
        return module_at((self.folder / plain(self.calls[name]["source"])).resolve())

    def unresolved(self) -> list[str]:
        """Return the references of its expressions that name nothing in it."""
        known = {f"var.{name}" for name in self.variables} | {f"local.{name}" for name in self.locals}
        known |= {f"module.{name}" for name in self.calls} | set(self.resources)
        found = sorted(set(_references([self.resources, self.outputs, self.calls, self.locals, self.variables])))
        return [each for each in found if each not in known]


@functools.cache
def module_at(folder: Path) -> Module:
    """Read a module; each once."""
    files = [hcl2.loads(path.read_text()) for path in sorted(folder.glob("*.tf"))]

    def blocks(kind: str) -> list[Block]:
        return [block for each in files for block in each.get(kind, [])]

    def labelled(kind: str) -> dict[str, Block]:
        return {plain(name): block for each in blocks(kind) for name, block in each.items() if not name.startswith("__")}

    (settings,) = blocks("terraform")
    required = settings.get("required_providers", [{}])[0]
    return Module(
        folder=folder,
        variables=labelled("variable"),
        outputs=labelled("output"),
        resources={
            f"{prefix}{plain(type_)}.{plain(name)}": block
            for kind, prefix in (("resource", ""), ("data", "data."), ("ephemeral", "ephemeral."))
            for each in blocks(kind)
            for type_, named in each.items()
            if not type_.startswith("__")
            for name, block in named.items()
            if not name.startswith("__")
        },
        calls=labelled("module"),
        locals={name: value for each in blocks("locals") for name, value in each.items() if not name.startswith("__")},
        providers={
            name: {plain(key): plain(value) for key, value in each.items()}
            for name, each in required.items()
            if not name.startswith("__")
        },
        required_version=str(plain(settings["required_version"])),
        configured=frozenset(labelled("provider")),
    )


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        bound = {plain(name) for name, block in node.items() if name == "dynamic" for each in block for name in each}
        for name, value in node.items():
            inside = value if name != "dynamic" else [block for each in value for block in each.values()]
            yield from (each for each in _references(inside) if each.partition(".")[0] not in bound)
    elif isinstance(node, list):
        for each in node:
            yield from _references(each)
    elif isinstance(node, str):
        for expression in _expressions(node):
            yield from _names(expression)


def _expressions(text: str) -> Iterator[str]:
    """Yield the expressions of a value: the whole of it, and those inside its quoted parts."""
    if text.startswith("${") and text.endswith("}") and not text.startswith('"'):
        yield text[2:-1]
    yield from _INSIDE.findall(text)


def _names(expression: str) -> Iterator[str]:
    bound = set(re.findall(r"\bfor\s+(\w+)(?:\s*,\s*(\w+))?\s+in\b", expression))
    names = {name for pair in bound for name in pair if name} | _BUILT_IN
    for first, second, third in _EXPRESSION.findall(expression):
        if not first or first in names:
            continue
        if first in {"data", "ephemeral"}:
            yield f"{first}.{second}.{third}"
        elif first in {"var", "local", "module"} or "_" in first:
            yield f"{first}.{second}"
