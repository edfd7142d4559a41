"""Errors survive the wire as what they are, and reach the user as what Polars would have raised."""

from __future__ import annotations

import pickle

import msgspec
import polars as pl
import pytest

from frazil_functions import errors
from frazil_functions.errors import (
    FrazilError,
    InternalError,
    PlatformError,
    ProtocolError,
    QueryError,
    SourceError,
    StorageError,
    StorageFullError,
    TaskError,
    UserError,
    WireError,
    from_wire,
    to_wire,
    user_exception,
)


def _tree(cls: type[FrazilError]) -> list[type[FrazilError]]:
    return [cls, *(sub for child in cls.__subclasses__() for sub in _tree(child))]


EVERY = [cls for cls in _tree(FrazilError) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", EVERY)
def test_every_kind_comes_back_from_the_wire_as_the_same_class(cls: type[FrazilError]) -> None:
    where = {"stage": "2", "task": "5", "file": "s3://b/ä.parquet"}
    sent = msgspec.json.encode(to_wire(cls("no such thing: ☃", where=where)))
    back = from_wire(msgspec.json.decode(sent, type=WireError))
    assert type(back) is cls
    assert (back.message, back.where) == ("no such thing: ☃", where)
    assert str(back) == "no such thing: ☃ (stage 2, task 5, file s3://b/ä.parquet)"


def test_no_two_classes_share_a_kind() -> None:
    kinds = [cls.kind for cls in EVERY]
    assert len(set(kinds)) == len(kinds)


KINDS = (
    "frazil user query plan plan_version plan_python fallback source deadline cancelled request "
    "task block storage storage_full out_of_memory internal platform function_lost function_busy protocol journal "
    "deposed standby"
)


def test_kinds_are_append_only() -> None:
    assert set(KINDS.split()) <= {cls.kind for cls in EVERY}


@pytest.mark.parametrize("cls", EVERY)
def test_what_the_handler_does_follows_from_the_branch_of_the_tree(cls: type[FrazilError]) -> None:
    if issubclass(cls, (ProtocolError, UserError)):
        assert (cls.retryable, cls.counts_as_failure) == (False, True)
    elif issubclass(cls, TaskError):
        assert (cls.retryable, cls.counts_as_failure) == (True, True)
    elif issubclass(cls, PlatformError):
        assert (cls.retryable, cls.counts_as_failure) == (True, False)


def test_the_docstring_draws_every_class() -> None:
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in EVERY if cls.__name__ not in drawn] == []


def test_a_kind_of_a_newer_version_is_retried_as_an_internal_error() -> None:
    back = from_wire(WireError(kind="eaten_by_a_whale", message="gone"))
    assert type(back) is InternalError
    assert back.retryable
    assert "eaten_by_a_whale: gone" in str(back)


@pytest.mark.parametrize(
    "raised",
    [
        pl.exceptions.ColumnNotFoundError("nope"),
        pl.exceptions.ComputeError("conversion failed"),
        pl.exceptions.SchemaError("not the same"),
        FileNotFoundError("no such file"),
        ZeroDivisionError("division"),
    ],
)
def test_a_polars_error_reaches_the_user_as_the_class_polars_raised(raised: Exception) -> None:
    error = QueryError(str(raised), exception=type(raised).__name__, where={"stage": "1", "task": "0", "file": "a.parquet"})
    back = user_exception(from_wire(to_wire(error)))
    assert type(back) is type(raised)
    assert str(raised) in str(back)
    assert back.__notes__ == ["frazil: stage 1, task 0, file a.parquet"]
    assert isinstance(back.__cause__, QueryError)


def test_files_that_polars_names_are_not_named_again() -> None:
    where = {"stage": "1", "file": "/d/a.csv, /d/b.csv"}
    named = user_exception(QueryError("no such files: ['/d/a.csv', '/d/b.csv']", where=where))
    assert named.__notes__ == ["frazil: stage 1"]
    half = user_exception(QueryError("no such file: /d/a.csv", where=where))
    assert half.__notes__ == ["frazil: stage 1, file /d/a.csv, /d/b.csv"]


def test_a_store_that_refuses_is_caught_as_the_os_error_that_polars_raises() -> None:
    back = from_wire(to_wire(StorageFullError("no space", where={"stage": "1"})))
    assert isinstance(back, OSError)
    assert (str(back), back.retryable) == ("no space (stage 1)", True)
    copy = pickle.loads(pickle.dumps(StorageError("refused")))
    assert (type(copy), copy.message) == (StorageError, "refused")


@pytest.mark.parametrize("name", ["NoSuchError", "print", "__doc__", ""])
def test_a_name_that_is_no_exception_leaves_the_query_error(name: str) -> None:
    error = QueryError("odd", exception=name)
    assert user_exception(error) is error


def test_an_error_of_ours_reaches_the_user_as_itself() -> None:
    error = SourceError("replaced since it was planned")
    assert user_exception(error) is error


def test_the_place_is_copied_and_so_can_not_change_behind_the_error() -> None:
    where = {"stage": "1"}
    error = TaskError("x", where=where)
    where["stage"] = "2"
    assert error.where == {"stage": "1"}
