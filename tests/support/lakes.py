"""Catalogs of Iceberg tables as others keep them: SeaweedFS's REST catalog, and a database of pyiceberg's, both with tables.

Their files lie in SeaweedFS, or in a folder. What a coordinator is told of them is a file of the kind that its users write.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import polars as pl

from support.seaweed import SeaweedFS

__all__ = ["ORDERS", "REST_BUCKET", "SHOPS", "Lake", "database_lake", "properties_of", "rest_lake"]

REST_BUCKET: Final = "tables-of-lake"
"""Where the tables of :func:`rest_lake` are. The server takes no ordinary bucket of that name, nor objects in it."""

ORDERS: Final = pl.DataFrame(
    {
        "a": range(40),
        "p": [None if n % 7 == 0 else f"k{n % 3}" for n in range(40)],
        "x": [None if n % 5 == 0 else n / 4 for n in range(40)],
        "d": [dt.date(2026, 1, 1 + n % 4) for n in range(40)],
        "l": [[n, None] if n % 2 else [] for n in range(40)],
    },
    schema_overrides={"l": pl.List(pl.Int64)},
)
"""In three snapshots, partitioned by ``p``."""

SHOPS: Final = pl.DataFrame({"p": ["k0", "k1", "k2"], "name": ["ann", "bob", "o'brien"]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """A catalog with the tables ``sales.orders`` and ``sales.eu.shops``."""

    name: str
    catalog: Any
    """pyiceberg's."""

    toml: str
    """What a coordinator's file says of it."""

    def table(self, name: str) -> Any:
        """Return a table of pyiceberg's, as it is now."""
        return self.catalog.load_table(name)


def properties_of(seaweed: SeaweedFS) -> dict[str, str]:
    """Return what pyiceberg needs to read and write the server's files."""
    return {
        "s3.endpoint": seaweed.endpoint,
        "s3.access-key-id": seaweed.access_key,
        "s3.secret-access-key": seaweed.secret_key,
        "s3.region": seaweed.region,
    }


def rest_lake(seaweed: SeaweedFS, name: str = "lake") -> Lake:
    """Return SeaweedFS's own catalog; its secrets are ``LAKE_CREDENTIAL``, ``LAKE_KEY`` and ``LAKE_SECRET``."""
    from pyiceberg.catalog.rest import RestCatalog

    tables = boto3.client(
        "s3tables",
        endpoint_url=seaweed.endpoint,
        aws_access_key_id=seaweed.access_key,
        aws_secret_access_key=seaweed.secret_key,
        region_name=seaweed.region,
    )
    tables.create_table_bucket(name=REST_BUCKET)
    credential = f"{seaweed.access_key}:{seaweed.secret_key}"
    warehouse = f"s3://{REST_BUCKET}/"
    properties = {**properties_of(seaweed), "oauth2-server-uri": f"{seaweed.iceberg}/v1/oauth/tokens"}
    catalog = RestCatalog(name, uri=seaweed.iceberg, warehouse=warehouse, credential=credential, **properties)
    toml = f"""
        [storage.store]
        prefixes = ["{warehouse}", "s3://open/"]
        options = {{ aws_endpoint_url = "{seaweed.endpoint}", aws_region = "{seaweed.region}", aws_allow_http = "true" }}
        secrets = {{ aws_access_key_id = "env:LAKE_KEY", aws_secret_access_key = "env:LAKE_SECRET" }}

        [catalogs.{name}]
        type = "rest"
        uri = "{seaweed.iceberg}"
        warehouse = "{warehouse}"
        secrets = {{ credential = "env:LAKE_CREDENTIAL" }}
        storage = "store"
        comment = "of the whole house"
    """
    return _filled(Lake(name=name, catalog=catalog, toml=toml))


def database_lake(folder: Path, name: str = "attic") -> Lake:
    """Return a catalog in a database of sqlite, whose tables are in a folder."""
    from pyiceberg.catalog.sql import SqlCatalog

    uri = f"sqlite:///{folder}/catalog.db"
    catalog = SqlCatalog(name, uri=uri, warehouse=f"file://{folder}/warehouse")
    toml = f"""
        [catalogs.{name}]
        type = "sql"
        uri = "{uri}"
    """
    return _filled(Lake(name=name, catalog=catalog, toml=toml))


def _filled(lake: Lake) -> Lake:
    catalog = lake.catalog
    for namespace in (("sales",), ("sales", "eu")):
        catalog.create_namespace(namespace)
    orders = catalog.create_table("sales.orders", schema=ORDERS.to_arrow().schema)
    with orders.update_spec() as update:
        update.add_identity("p")
    for start in (0, 15, 30):
        orders.append(ORDERS.slice(start, 15).to_arrow())
    catalog.create_table("sales.eu.shops", schema=SHOPS.to_arrow().schema).append(SHOPS.to_arrow())
    return lake
