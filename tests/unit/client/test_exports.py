"""The public names of `frazil`, and what importing it costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import frazil
from frazil._parts import local_options, parse_bytes


def test_the_public_names_are_sorted_and_there() -> None:
    assert frazil.__all__ == sorted(frazil.__all__)
    assert all(hasattr(frazil, name) for name in frazil.__all__)


def test_nothing_public_is_left_out_of_all() -> None:
    public = {
        name
        for name, value in vars(frazil).items()
        if not name.startswith("_") and not inspect.ismodule(value) and getattr(value, "__module__", "").startswith("frazil")
    }
    assert public <= set(frazil.__all__)


def test_importing_frazil_needs_no_extra() -> None:
    code = (
        "import sys, frazil; frazil.connect('http://127.0.0.1:1'); frazil.local();"
        "print([name for name in ('pydantic', 'fastapi', 'pyarrow', 'aiohttp', 'uvicorn',"
        " 'frazil_coordinator.coordinator') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_commands_need_no_extra_until_one_is_used_that_does() -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('google_crc32c', 'pydantic', 'fastapi', 'pyarrow', 'aiohttp', 'sqlglot'))\n"
        "import frazil.cli\n"
        "try:\n    frazil.load_replay('x')\nexcept ImportError as error:\n    print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 'pip install "frazil[functions]"' in told


@pytest.mark.parametrize(
    ("text", "amount"), [("512MiB", 512 << 20), ("2 GB", 2 * 10**9), ("1.5GiB", 3 << 29), (1000, 1000), ("64k", 64_000)]
)
def test_amounts_of_memory(text: str | int, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "lots", "0", "-1", "1TiBs", 0])
def test_what_is_no_amount_of_memory(text: str | int) -> None:
    with pytest.raises(frazil.RequestError, match="amount of memory"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("store", "options", "says"),
    [
        ("ftp://host/x", {}, "stores of kind 'ftp' are not known"),
        ("s3://bucket/x", {"aws_secret": "x"}, "aws_secret"),
        ("s3://key:secret@bucket/x", {}, "holds credentials"),
        (__file__, {}, "is not a folder"),
    ],
)
def test_a_store_that_can_not_be_is_refused_when_the_engine_is_made(store: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(frazil.RequestError, match=f"store: .*{says}"):
        frazil.local(store=store, storage_options=options)


def test_a_folder_that_is_missing_is_made_by_the_first_query_only(tmp_path: Path) -> None:
    for store in (str(tmp_path / "new"), (tmp_path / "new").as_uri()):
        frazil.local(store=store).close()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("settings", [{"start_small": False}, "start_small=false"])
def test_what_is_no_settings_is_refused_when_the_engine_is_made(settings: Any) -> None:
    with pytest.raises(frazil.RequestError, match=rf"must be frazil.Settings.*not {type(settings).__name__}"):
        frazil.local(settings=settings)
    with pytest.raises(frazil.RequestError, match="settings must be"):
        frazil.connect("http://127.0.0.1:1", settings=settings)


@pytest.mark.parametrize(("name", "value"), [("max_functions", 0), ("threads_per_function", 0), ("idle_s", -1.0)])
def test_options_out_of_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(frazil.RequestError, match=name):
        local_options(**{name: value})  # type: ignore[arg-type]  # any of them
