"""What an exception in a worker means: who is at fault, and whether to try again."""

from __future__ import annotations

import errno
import http.server
import threading
from collections.abc import Iterator

import polars as pl
import polars.exceptions as pl_exceptions
import pytest

from frazil_functions.errors import (
    BlockError,
    FrazilError,
    InternalError,
    OutOfMemoryError,
    QueryError,
    StorageError,
    StorageFullError,
)
from frazil_functions.failures import task_error
from frazil_functions.sources import secret_values

WHERE = {"stage": "2", "task": "5"}
STORE = "object-store error: Generic S3 error: Error performing GET http://127.0.0.1/x in 2ms - "


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pl_exceptions.ColumnNotFoundError("b"), QueryError),
        (pl_exceptions.PanicException("index out of bounds"), QueryError),
        (FileNotFoundError("No such file or directory (os error 2): x"), QueryError),
        (PermissionError("object-store error: ... status code: 403 Forbidden"), QueryError),
        (ValueError("invalid value"), QueryError),
        (OSError(f"{STORE}Server returned non-2xx status code: 400 Bad Request"), QueryError),
        (OSError(f"{STORE}Server returned non-2xx status code: 503 Service Unavailable"), StorageError),
        (OSError(f"{STORE}Server returned non-2xx status code: 500 Internal Server Error"), StorageError),
        (OSError(f"{STORE}Server returned non-2xx status code: 429 Too Many Requests"), StorageError),
        (OSError(f"{STORE}HTTP error: error sending request"), StorageError),
        (pl_exceptions.ComputeError(f"{STORE}operation timed out"), StorageError),
        (ConnectionResetError("reset by peer"), StorageError),
        (TimeoutError("timed out"), StorageError),
        (OSError(errno.ENOSPC, "No space left on device"), StorageFullError),
        (pl_exceptions.ComputeError("No space left on device (os error 28)"), StorageFullError),
        (MemoryError(), OutOfMemoryError),
        (BlockError("torn"), BlockError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else f"{type(value).__name__}: {str(value)[-30:]}",
)
def test_an_exception_of_polars_is_classified(error: BaseException, kind: type[FrazilError]) -> None:
    found = task_error(error, where=WHERE)
    assert type(found) is kind
    assert found.where == WHERE


def test_an_exception_of_ours_outside_polars_is_internal() -> None:
    found = task_error(KeyError("x"), where=WHERE, in_polars=False)
    assert type(found) is InternalError
    assert found.message == "KeyError: 'x'"


def test_an_error_of_polars_outside_the_fragment_is_still_the_querys() -> None:
    found = task_error(pl_exceptions.ShapeError("x"), where=WHERE, in_polars=False)
    assert isinstance(found, QueryError)
    assert found.exception == "ShapeError"


@pytest.mark.parametrize("name", [name for name in pl_exceptions.__all__ if not name.endswith("Warning")])
def test_every_class_of_polars_keeps_its_name(name: str) -> None:
    cls = getattr(pl_exceptions, name)
    found = task_error(cls("words"), where=WHERE)
    assert isinstance(found, QueryError)
    assert (found.exception, found.message) == (name, "words")


def test_the_only_file_is_named_and_else_the_one_in_the_message() -> None:
    error = pl_exceptions.ComputeError("can't read s3://b/2.parquet")
    assert task_error(error, where=WHERE, files=["s3://b/1.parquet"]).where["file"] == "s3://b/1.parquet"
    assert task_error(error, where=WHERE, files=["s3://b/1.parquet", "s3://b/2.parquet"]).where["file"] == "s3://b/2.parquet"
    assert "file" not in task_error(error, where=WHERE, files=["s3://b/1.parquet", "s3://b/3.parquet"]).where


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers every request with the server's status."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "kind"), [(503, StorageError), (403, QueryError), (404, QueryError)])
def test_what_polars_says_of_a_real_answer_is_understood(
    endpoint: str, status: int, kind: type[FrazilError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refusing, "status", status)
    options = {
        "aws_endpoint_url": endpoint,
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": "verysecretvalue",
        "aws_region": "r",
        "allow_http": "true",
        "max_retries": 1,
    }
    scan = pl.scan_parquet("s3://b/x.parquet", schema={"a": pl.Int64}, glob=False, storage_options=options)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # its class is what is asked
        list(scan.collect_batches(engine="streaming", lazy=True))
    found = task_error(caught.value, where=WHERE, files=["s3://b/x.parquet"])
    assert type(found) is kind
    assert "verysecretvalue" not in str(found)


def test_secrets_of_the_scan_do_not_leave_in_a_message() -> None:
    options = {"config": {"Aws": [["SecretAccessKey", "verysecretvalue"], ["Region", "eu"]]}}
    secrets = secret_values(options)
    assert secrets == {"verysecretvalue"}
    found = task_error(pl_exceptions.ComputeError("bad verysecretvalue in eu"), where=WHERE, secrets=secrets)
    assert found.message == "bad *** in eu"


@pytest.mark.parametrize("options", [None, {}, {"config": None}, {"config": {"Http": {"headers": []}}}])
def test_a_scan_without_options_has_no_secrets(options: object) -> None:
    assert secret_values(options) == set()
