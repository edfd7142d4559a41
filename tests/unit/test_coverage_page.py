"""The page of what is distributed, from what the parity tests recorded."""

from __future__ import annotations

import json

from benchmarks.coverage_page import cases_of, page_of


def _record(test: str, tasks: int, *fallbacks: str) -> str:
    return json.dumps({"test": test, "plans": [{"tasks": tasks, "fallbacks": fallbacks}]})


def test_variants_of_a_case_are_one_and_what_falls_back_comes_first_with_its_reason() -> None:
    page = page_of(
        cases_of(
            [
                _record("tests/parity/test_joins.py::test_join[hash-inner]", 5),
                _record("tests/parity/test_joins.py::test_join[broadcast-inner]", 4),
                _record("tests/parity/test_joins.py::test_join[hash-odd]", 5, "odd | things"),
                _record("tests/parity/test_joins.py::test_whole", 1, "it sees all rows"),
                _record("tests/parity/test_joins.py::test_needs_one_task_anyway", 1),
            ]
        )
    )
    assert "3 cases: 1 distributed, 1 in part, 1 one task." in page
    assert "| joins | join: odd | in part | odd \\| things |" in page
    assert "| joins | whole | one task | it sees all rows |" in page
    assert page.index("it sees all rows") < page.index("* join: inner\n")
    assert "anyway" not in page.partition("cases:")[2]


def test_reasons_that_differ_in_the_file_only_are_told_once_and_without_its_path() -> None:
    lines = [
        _record(f"tests/parity/test_files.py::test_f[hash-{name}]", 3, f"a file of {folder}/1/{name}.csv is one split: why")
        for name in ("a", "a")
        for folder in ("/somewhere/else", "file:///nowhere", "/elsewhere/x")
    ]
    assert page_of(cases_of(lines)).count("why") == 1
    assert "| files | f: a | in part | a file of … is one split: why |" in page_of(cases_of(lines))
