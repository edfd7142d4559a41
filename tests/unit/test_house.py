"""The rules of the house, held by tests: sizes, documentation, layers, what a function imports."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import frazil
import frazil_coordinator
import frazil_functions
from frazil_coordinator.settings import Settings
from support.sharing import LONGEST_FIRST, TESTS

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("client", "coordinator", "functions") for path in (ROOT / folder).rglob("*.py"))
OURS = [*SOURCES, *sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))]

MODULE_LINES = 500
BODY_LINES = 70
NOT_IN_A_FUNCTION = frozenset(
    {"pydantic", "fastapi", "starlette", "httpx", "pyarrow", "boto3", "aiohttp", "kubernetes", "rich", "typer"}
    | {"cloudpickle", "frazil", "frazil_coordinator"}
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function, signature included, docstring excluded."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return total
    docstring = function.body[0]
    return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", OURS, ids=_name)
def test_rooms_stay_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MODULE_LINES
    long = {f.name: lines for f in _functions(ast.parse(text)) if (lines := _body_lines(f)) > BODY_LINES}
    assert not long


def _public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    owners: list[ast.Module | ast.ClassDef] = [tree]
    owners += [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for owner in owners:
        for node in owner.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                yield node


def _inherits_its_words(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Return whether `node` overrides or overloads something that is documented elsewhere."""
    marks = {ast.unparse(mark).partition("(")[0].rpartition(".")[2] for mark in node.decorator_list}
    return bool(marks & {"overload", "override", "register", "setter"})


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_every_public_name_is_documented(path: Path) -> None:
    public = _public_definitions(ast.parse(path.read_text()))
    assert not [node.name for node in public if ast.get_docstring(node) is None and not _inherits_its_words(node)]


def _modules() -> list[str]:
    names: list[str] = []
    for package in (frazil, frazil_coordinator, frazil_functions):
        names.append(package.__name__)
        names += [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("name", _modules())
def test_exported_names_exist_and_are_sorted(name: str) -> None:
    module = importlib.import_module(name)
    exported: list[str] = list(getattr(module, "__all__", []))
    assert exported == _isort(exported)
    assert [one for one in exported if not hasattr(module, one)] == []


def _isort(names: list[str]) -> list[str]:
    """Sort constants, then classes, then functions, as ruff's RUF022 does."""

    def rank(name: str) -> tuple[int, str]:
        if name.isupper() and len(name) > 1:
            return 0, name
        return (1, name) if name[:1].isupper() else (2, name)

    return sorted(names, key=rank)


def test_the_settings_page_names_every_knob_and_no_other() -> None:
    lines = (ROOT / "docs" / "settings.md").read_text().splitlines()
    named = {line.split("`")[1] for line in lines if line.startswith("| `")}
    assert named == {knob.name for knob in fields(Settings)}


@pytest.mark.parametrize("module", ["frazil_functions.app", "frazil_functions.run", "frazil_functions.__main__"])
def test_a_function_imports_nothing_of_the_coordinator(module: str) -> None:
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    loaded = set(json.loads(answer.stdout))
    assert loaded & NOT_IN_A_FUNCTION == set()


def test_the_client_imports_no_server() -> None:
    code = "import json, sys, frazil; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert set(json.loads(answer.stdout)) & {"fastapi", "starlette", "uvicorn", "aiohttp", "kubernetes", "pyarrow"} == set()


def test_the_files_that_workers_begin_with_are_there() -> None:
    assert [name for name in LONGEST_FIRST if not (TESTS / name).is_file()] == []


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    broken = [
        f"{_name(page)}: {target}"
        for page in pages
        for target in _link_targets(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def _link_targets(text: str) -> list[str]:
    prose = "".join(part for number, part in enumerate(text.split("```")) if number % 2 == 0)
    found = [piece.partition(")")[0].partition("#")[0] for piece in prose.split("](")[1:]]
    return [target for target in found if target and "://" not in target]
