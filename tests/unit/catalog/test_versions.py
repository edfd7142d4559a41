"""Tables in the object store: one object a version, whoever writes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from frazil_coordinator.catalog import Catalog, Table, TableConflictError, TableSource, UnknownTableError
from frazil_functions.errors import RequestError
from frazil_functions.storage import FolderStore
from frazil_functions.storage_model import CountingStore, ObjectInfo


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(FolderStore(tmp_path))


def table(name: str = "orders", location: str = "/data/a.parquet") -> Table:
    return Table(name=name, location=location, format="parquet", options={"hive_partitioning": True})


def test_a_table_outlives_its_catalog_and_belongs_to_one_tenant(store: CountingStore) -> None:
    made = Catalog(store).put("a/../é", table())
    assert made.version == 1
    again = Catalog(store)
    assert again.get("a/../é", "orders") == made
    assert again.list("a/../é") == (made,)
    assert again.list("b") == ()
    with pytest.raises(UnknownTableError):
        again.get("b", "orders")


def test_versions_ascend_also_over_a_drop_and_old_ones_go(store: CountingStore) -> None:
    catalog = Catalog(store)
    catalog.put("a", table())
    assert catalog.put("a", table(location="/data/b.parquet")).version == 2
    catalog.drop("a", "orders")
    with pytest.raises(UnknownTableError):
        catalog.get("a", "orders")
    with pytest.raises(UnknownTableError):
        catalog.drop("a", "orders")
    assert catalog.list("a") == ()
    assert catalog.put("a", table(), expected=0).version == 4
    assert len(store.list("catalog")) == 1


def test_a_change_names_the_version_that_it_replaces(store: CountingStore) -> None:
    catalog = Catalog(store)
    catalog.put("a", table(), expected=0)
    with pytest.raises(TableConflictError, match="is of version 1, and not new"):
        catalog.put("a", table(), expected=0)
    assert catalog.put("a", table(), expected=1).version == 2
    with pytest.raises(TableConflictError, match="is of version 2"):
        catalog.put("a", table(), expected=1)
    with pytest.raises(TableConflictError):
        catalog.drop("a", "orders", expected=1)
    with pytest.raises(TableConflictError, match="not there"):
        catalog.put("a", table("other"), expected=3)


def test_of_racing_changes_of_one_version_one_wins(store: CountingStore) -> None:
    Catalog(store).put("a", table())
    won: list[str] = []

    def change(number: int) -> None:
        location = f"/data/{number}.parquet"
        try:
            Catalog(store).put("a", table(location=location), expected=1)
        except TableConflictError:
            return
        won.append(location)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [Catalog(store).get("a", "orders").location] == won


class Overtaken(CountingStore):
    """A store in which others change the table, once, after it was listed."""

    def list(self, prefix: str) -> list[ObjectInfo]:
        found = super().list(prefix)
        if not self.overtaken:
            self.overtaken = True
            Catalog(self).put("a", table(location="/data/others.parquet"))
        return found

    overtaken = False


def test_a_version_that_is_replaced_between_the_listing_and_the_reading_is_no_error(tmp_path: Path) -> None:
    Catalog(CountingStore(FolderStore(tmp_path))).put("a", table())
    assert Catalog(Overtaken(FolderStore(tmp_path))).get("a", "orders").location == "/data/others.parquet"
    assert Catalog(Overtaken(FolderStore(tmp_path))).put("a", table()).version == 4
    with pytest.raises(TableConflictError, match="is of version 5"):
        Catalog(Overtaken(FolderStore(tmp_path))).put("a", table(), expected=4)


def test_requests_are_those_that_the_docstrings_promise(store: CountingStore) -> None:
    catalog = Catalog(store)
    catalog.put("a", table())
    before = store.requests
    catalog.get("a", "orders")
    assert {name: count - before.get(name, 0) for name, count in store.requests.items() if count != before.get(name, 0)} == {
        "list": 1,
        "get": 1,
    }


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a/b", "..", "a b", "é", "x" * 129])
def test_a_name_is_letters_digits_and_underscores(store: CountingStore, name: str) -> None:
    with pytest.raises(RequestError, match="no name of a table"):
        Catalog(store).put("a", table(name))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (TableSource(location="relative/a.parquet"), "absolute path"),
        (TableSource(location="http://169.254.169.254/x"), "absolute path"),
        (TableSource(location="s3://user:password@bucket/x"), "user or a password"),
        (TableSource(location="/a.parquet", options={"storage_options": {}}), "not kept for parquet"),
        (TableSource(location="/a.csv", options={"separator": 3}), "separator"),
        (TableSource(location="s3://b/a", storage_options={"AWS_Secret_Access_Key": "x"}), "may be a secret"),
        (TableSource(location="s3://b/a", storage_options={"aws_session_token": "x"}), "may be a secret"),
    ],
)
def test_what_a_table_may_not_say_is_refused(source: TableSource, words: str) -> None:
    with pytest.raises(RequestError, match=words) as raised:
        source.checked()
    assert "password@" not in str(raised.value)


@pytest.mark.parametrize(
    ("location", "kind"),
    [("/a.csv", "csv"), ("s3://b/x/*.JSONL", "ndjson"), ("/x.arrow", "ipc"), ("s3://b/folder/", "parquet")],
)
def test_the_format_is_told_by_the_suffix(location: str, kind: str) -> None:
    assert TableSource(location=location).checked().format == kind
