"""Stores: the same behaviour on a folder and on real S3, and errors that say what to do without telling secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from obstore.store import LocalStore

from frazil_functions.errors import BlockError, StorageError, StorageFullError
from frazil_functions.storage import CountingStore, FolderStore, ObjectInfo, ObjectStore, Store, open_store
from frazil_functions.storage_object import ObjectStore as RealObjectStore
from support.processes import free_ports
from support.seaweed import SeaweedFS

SECRET = "do-not-tell-this-secret"
KEYS = {"aws_region": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": SECRET}


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Return an empty store of each kind."""
    if request.param == "folder":
        return open_store(str(tmp_path / "new" / "folder"))
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    prefix = f"storage/{tmp_path.name}"
    return open_store(seaweed.url(prefix), seaweed.storage_options)


def test_what_was_put_is_read_back_whole_and_by_range(store: Store) -> None:
    store.put("a/b/c", [b"hello ", b"", b"world"])
    assert store.get("a/b/c") == b"hello world"
    assert store.get_range("a/b/c", 6, 5) == b"world"
    assert store.get_range("a/b/c", 3, 0) == b""
    assert store.get_ranges("a/b/c", [(0, 2), (2, 3), (9, 2), (4, 0)]) == [b"he", b"llo", b"ld", b""]
    assert store.get_ranges("a/b/c", []) == []
    assert store.head("a/b/c") == ObjectInfo(key="a/b/c", size=11)
    store.put("a/b/c", [])
    assert store.get("a/b/c") == b""


def test_lists_are_by_folder_sorted_and_relative_to_the_root(store: Store) -> None:
    for key in ("q/2/x", "q/10/x", "q/1", "qq/1"):
        store.put(key, [b"12"])
    assert [info.key for info in store.list("q")] == ["q/1", "q/10/x", "q/2/x"]
    assert [info.key for info in store.list("q/")] == ["q/1", "q/10/x", "q/2/x"]
    assert len(store.list("")) == 4
    assert store.list("none") == []
    assert {info.size for info in store.list("")} == {2}


def test_deleting_is_idempotent_and_by_folder(store: Store) -> None:
    for key in ("q/1/x", "q/2/x", "qq/1"):
        store.put(key, [b"12"])
    store.delete(["q/1/x", "q/never"])
    store.delete([])
    assert [info.key for info in store.list("")] == ["q/2/x", "qq/1"]
    assert store.delete_prefix("q") == 1
    assert store.delete_prefix("q") == 0
    assert [info.key for info in store.list("")] == ["qq/1"]
    assert store.delete_prefix("") == 1


@pytest.mark.parametrize("read", [lambda s: s.get("no"), lambda s: s.get_range("no", 0, 1), lambda s: s.head("no")])
def test_a_missing_object_is_a_block_error(store: Store, read: Callable[[Store], object]) -> None:
    store.put("yes", [b"x"])
    with pytest.raises(BlockError, match="object no is missing in"):
        read(store)


@pytest.mark.parametrize(("start", "length"), [(0, 12), (8, 4), (11, 1), (500, 2)])
def test_a_range_past_the_end_is_a_block_error(store: Store, start: int, length: int) -> None:
    store.put("k", [b"hello world"])
    with pytest.raises(BlockError, match="object k"):
        store.get_range("k", start, length)
    with pytest.raises(BlockError, match="object k"):
        store.get_ranges("k", [(0, 1), (start, length)])


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/../../b", "a/.", "a\0b", "a\\b"])
def test_a_key_that_would_leave_the_root_is_refused(store: Store, key: str) -> None:
    for call in (lambda: store.put(key, [b"x"]), lambda: store.get(key), lambda: store.delete([key])):
        with pytest.raises(StorageError, match="is not an object key"):
            call()


def test_the_url_opens_the_same_store(store: Store, seaweed: SeaweedFS) -> None:
    store.put("a", [b"x"])
    assert open_store(store.url, seaweed.storage_options).get("a") == b"x"


def test_requests_and_bytes_are_counted_by_operation(store: Store) -> None:
    counting = CountingStore(store)
    counting.put("a/1", [b"12", b"345"])
    counting.put("a/2", [b"1"])
    counting.get("a/1")
    counting.get_range("a/1", 1, 2)
    counting.get_ranges("a/1", [(0, 1), (3, 1)])
    counting.head("a/1")
    counting.list("a")
    counting.delete(["a/1"])
    counting.delete([])
    with pytest.raises(BlockError):
        counting.get("a/1")
    assert counting.requests == {"put": 2, "get": 5, "head": 1, "list": 1, "delete": 1}
    assert counting.bytes == {"put": 6, "get": 9}
    assert counting.delete_prefix("a") == 1
    assert counting.requests["list"] == 2
    assert counting.requests["delete"] == 2
    assert (counting.url, counting.remote) == (store.url, store.remote)


def test_counts_are_right_under_threads(tmp_path: Path) -> None:
    counting = CountingStore(FolderStore(tmp_path))
    counting.put("k", [b"12345"])
    threads = [threading.Thread(target=lambda: [counting.get("k") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counting.requests["get"] == 1600
    assert counting.bytes["get"] == 8000


def test_paths_and_file_urls_name_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space % and ü"
    open_store(str(folder)).put("k", [b"x"])
    assert open_store(folder.as_uri()).get("k") == b"x"
    assert open_store(f"file://localhost{tmp_path}").list("")[0].size == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/x", "kind 'ftp' are not known"),
        ("file://other/x", "names another host"),
        ("s3://key:secret@bucket/x", "pass them as storage options"),
        ("s3://", "can't open"),
    ],
)
def test_a_url_that_is_no_store_is_refused(url: str, message: str) -> None:
    with pytest.raises(StorageError, match=message) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(StorageError, match="nonsense"):
        open_store("s3://bucket", {"nonsense": "1"})


@pytest.mark.parametrize("url", ["gs://bucket/prefix", "az://container/prefix"])
def test_google_and_azure_urls_open(url: str) -> None:
    options = {"azure_storage_account_name": "x", "azure_storage_account_key": "YQ=="} if url.startswith("az") else {}
    store = open_store(url, options or {"google_skip_signature": "true"})
    assert isinstance(store, ObjectStore)
    assert store.remote


class TestFolder:
    """What only a folder can get wrong."""

    def test_deleting_a_prefix_leaves_no_empty_folder(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path / "root")
        for key in ("p/00/q/1/x", "p/00/q/2/y", "p/00/r/1"):
            store.put(key, [b"1"])
        (tmp_path / "root" / "p/00/q/2/.frazil-tmp-torn").write_bytes(b"half")
        assert store.delete_prefix("p/00/q") == 2
        assert sorted(path.name for path in (tmp_path / "root").rglob("*")) == ["00", "1", "p", "r"]
        store.delete_prefix("p/00/r")
        assert list((tmp_path / "root").iterdir()) == []

    def test_an_unfinished_write_is_no_object(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        store.put("a/k", [b"1"])
        (tmp_path / "a" / ".frazil-tmp-torn").write_bytes(b"half")
        assert [info.key for info in store.list("")] == ["a/k"]

    def test_a_reader_sees_all_of_an_object_or_nothing(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        states: list[int] = []
        part = b"x" * 1000

        class Watched(list[bytes]):
            def __iter__(self) -> object:  # type: ignore[override]  # looks at the folder between two parts
                for one in (part, part, part):
                    states.append(len(store.list("")))
                    yield one

        store.put("k", Watched())
        assert states == [0, 0, 0]
        assert store.head("k").size == 3000

    def test_a_write_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        with pytest.raises(TypeError):
            store.put("k", [b"good", "bad"])  # type: ignore[list-item]  # the point
        assert list(tmp_path.iterdir()) == []

    def test_no_space_is_its_own_error_and_leaves_nothing(self, tmp_path: Path) -> None:
        script = (
            "import resource, sys\n"
            "from frazil_functions.errors import StorageFullError\n"
            "from frazil_functions.storage import open_store\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"  # the kernel refuses more, as with a full disk
            "store = open_store(sys.argv[1])\n"
            "store.put('fits', [b'x' * 4096])\n"
            "try:\n    store.put('k', [b'x' * 4000, b'y' * 4000])\n"
            "except StorageFullError as error:\n    print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True, env=dict(os.environ)
        )
        assert "no space to write" in done.stdout
        assert "free space" in done.stdout
        assert [path.name for path in tmp_path.iterdir()] == ["fits"]

    def test_a_full_file_system_is_its_own_error_and_leaves_nothing(self, tmp_path: Path) -> None:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True
        ).returncode:
            pytest.skip("may not mount a small file system")
        try:
            store = FolderStore(tmp_path)
            with pytest.raises(StorageFullError, match="no space"):
                store.put("k", [b"x" * 50_000, b"y" * 50_000])
            assert store.list("") == []
            store.put("small", [b"x" * 1000])
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_a_folder_that_cannot_be_made_is_a_storage_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="can't make"):
            open_store(str(tmp_path / "file" / "folder"))

    def test_writes_survive_a_delete_of_their_folder_beside_them(self, tmp_path: Path) -> None:
        store = FolderStore(tmp_path)
        done = threading.Event()

        def delete_all_the_time() -> None:
            while not done.is_set():
                store.delete_prefix("other")
                store.delete_prefix("q/other")

        thread = threading.Thread(target=delete_all_the_time)
        thread.start()
        try:
            for number in range(200):
                store.put(f"q/{number}/x", [b"x"])
                store.delete_prefix(f"q/{number}")
        finally:
            done.set()
            thread.join()
        assert list(tmp_path.iterdir()) == []


class TestBucket:
    """What only a remote store can get wrong."""

    @pytest.mark.parametrize("name", ["aws_secret_access_key", "aws_access_key_id"])
    def test_wrong_credentials_say_what_to_check_and_hold_no_secret(self, seaweed: SeaweedFS, name: str) -> None:
        store = open_store(seaweed.url("wrong-credentials"), seaweed.storage_options | {name: SECRET})
        calls: list[Callable[[], object]] = [
            lambda: store.put("k", [b"x"]),
            lambda: store.get("k"),
            lambda: store.list(""),
            lambda: store.delete(["k"]),
        ]
        for call in calls:
            with pytest.raises(StorageError, match="check the credentials in the storage options") as raised:
                call()
            assert SECRET not in str(raised.value)
            assert SECRET not in str(raised.value.__cause__)
            assert seaweed.secret_key not in str(raised.value)

    def test_a_missing_bucket_is_said_to_be_missing(self, seaweed: SeaweedFS) -> None:
        store = open_store("s3://no-such-bucket-here/p", seaweed.storage_options)
        for call in (lambda: store.get("k"), lambda: store.list("")):
            with pytest.raises(StorageError, match="does not exist: create it"):
                call()

    def test_a_dead_endpoint_fails_within_seconds(self) -> None:
        [port] = free_ports(1)
        options = {"aws_endpoint_url": f"http://127.0.0.1:{port}", "aws_allow_http": "true"}
        options |= {"aws_access_key_id": "a", "aws_secret_access_key": SECRET, "aws_region": "us-east-1"}
        store = open_store("s3://bucket/p", options)
        start = time.monotonic()
        with pytest.raises(StorageError, match="can't reach s3://bucket/p: check the endpoint") as raised:
            store.put("k", [b"x"])
        assert time.monotonic() - start < 10
        assert SECRET not in str(raised.value)

    def test_a_large_object_goes_in_parts(self, seaweed: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("frazil_functions.storage_object._MULTIPART_ABOVE", 6 * 1024 * 1024)
        monkeypatch.setattr("frazil_functions.storage_object._MULTIPART_CHUNK", 5 * 1024 * 1024)
        store = RealObjectStore(seaweed.url("multipart"), seaweed.storage_options)
        parts = [bytes([number]) * (3 * 1024 * 1024 + number) for number in range(5)]
        store.put("large", parts)
        assert store.get("large") == b"".join(parts)
        etag = seaweed.client().head_object(Bucket="multipart", Key="large")["ETag"]
        assert etag.strip('"').endswith("-4")

    def test_a_missing_key_does_not_stop_the_others_from_being_deleted(self, tmp_path: Path) -> None:
        store = RealObjectStore("s3://bucket", KEYS)
        store._store = LocalStore(tmp_path)  # it deletes one by one and reports a missing key, as Google's does
        for key in ("a", "c"):
            store.put(key, [b"x"])
        store.delete(["a", "b", "c"])
        assert store.list("") == []

    def test_options_of_polars_and_of_the_client_are_understood(self, seaweed: SeaweedFS) -> None:
        extra = {"max_retries": "1", "file_cache_ttl": "60", "timeout": "20s", "aws_virtual_hosted_style_request": "false"}
        store = open_store(seaweed.url("options"), seaweed.storage_options | extra)
        store.put("k", [b"x"])
        assert store.get("k") == b"x"


def _answer(status: str, body: str, key: str = "k") -> ValueError:
    """Return an error in the form of obstore's."""
    url = f"http://127.0.0.1:1/bucket/{key}"
    return ValueError(
        f"Generic S3 error: Error performing PUT {url} in 1ms - Server returned non-2xx status code: {status}: {body}"
    )


@pytest.mark.parametrize(
    "error",
    [
        _answer("507 Insufficient Storage", ""),
        _answer("403 Forbidden", "<Error><Code>QuotaExceeded</Code></Error>"),
        _answer("507 Insufficient Storage", "<Error><Code>XMinioStorageFull</Code></Error>"),
        _answer("500 Internal Server Error", "write /data: no space left on device"),
    ],
)
def test_every_way_in_which_servers_say_full_is_understood(error: ValueError) -> None:
    store = RealObjectStore("s3://bucket", KEYS)
    assert isinstance(store._translated(error, "write", "k"), StorageFullError)


def test_the_names_in_an_answer_do_not_decide_what_it_means() -> None:
    store = RealObjectStore("s3://bucket", KEYS)
    key = "disk full/timeout/507/credential"
    body = f"<Error><Code>SlowDown</Code><Key>{key}</Key><Resource>/bucket/{key}</Resource></Error>"
    found = store._translated(_answer("503 Service Unavailable", body, key.replace(" ", "%20")), "write", "k")
    assert type(found) is StorageError
    assert found.message.startswith("can't write s3://bucket/k: ")


def test_a_secret_that_a_server_repeats_is_masked() -> None:
    store = RealObjectStore("s3://bucket", KEYS)
    with pytest.raises(StorageError) as raised, store._errors("write", "k"):
        raise ValueError(f"odd answer {SECRET}")
    assert SECRET not in str(raised.value)
    assert raised.value.__cause__ is None
