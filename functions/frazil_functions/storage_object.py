"""Objects in S3, Google Cloud Storage or Azure, through obstore.

Retries and timeouts are bounded so that a dead endpoint fails within seconds. Errors become Frazil's, and say what to do;
no message holds a secret, whatever the server answers.
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import from_url

from frazil_functions.errors import BlockError, FrazilError, StorageError, StorageFullError
from frazil_functions.storage_model import ObjectInfo, check_key

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig, S3Config

__all__ = ["ObjectStore"]

_MULTIPART_ABOVE: Final = 256 * 1024 * 1024
"""Bytes above which a PUT goes in parts: a single request might not end within its timeout."""

_MULTIPART_CHUNK: Final = 16 * 1024 * 1024
_COPY_LIMIT: Final = 5_000_000_000
"""Bytes above which S3 copies no object in one request (CopyObject)."""

_LARGE_CHUNK: Final = 64 * 1024 * 1024
"""Part of a larger copy: an upload has 10,000 parts at most."""

_CLIENT_KEYS: Final = frozenset(
    {"allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout"}
    | {
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "read_timeout",
        "timeout",
        "user_agent",
    }
)
_POLARS_KEYS: Final = frozenset(
    {"file_cache_ttl", "retry_timeout_ms", "retry_init_backoff_ms", "retry_max_backoff_ms", "retry_base_multiplier"}
    | {f"rate_{verb}_{what}" for verb in ("read", "write") for what in ("init", "floor", "ceiling")}
)
"""Options that tune polars' own reader; they mean nothing here."""

_SECRET_WORDS: Final = (
    "secret",
    "token",
    "password",
    "sas",
    "account_key",
    "access_key",
    "private_key",
    "service_account_key",
)
_SECRET_ENV: Final = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_NOISE: Final = re.compile(r"https?://\S+|retry_timeout: \S+|<Resource>.*?</Resource>|<Key>.*?</Key>")
"""Parts of an answer that hold names of the user's: no reason is read from them."""

_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound"})
_REFUSED: Final = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"})
_FULL: Final = ("no space left", "quotaexceeded", "quota exceeded", "storagefull", "insufficient storage", "disk full")
_UNREACHABLE: Final = ("error sending request", "connection refused", "dns error", "timed out", "timeout", "connect error")
_NO_CREDENTIALS: Final = ("credential", "missing accesskeyid", "missing secretaccesskey")


class ObjectStore:
    """A :class:`~frazil_functions.storage_model.Store` in a bucket.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://…``, ``az://…``.
    options
        As polars' ``storage_options``; what is missing comes from the environment.
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self._secrets = _secrets(options)
        config, client, retries = _split_options(options)
        retry: RetryConfig = {
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=20),
            "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
        }
        # obstore checks the names of options itself, at run time, and they come from users
        with self._errors("open", ""):
            self._store = from_url(
                self._url,
                config=cast("S3Config", config),
                client_options=cast("ClientConfig", client),
                retry_config=retry,
            )

    @property
    def url(self) -> str:
        """URL of the root."""
        return self._url

    @property
    def remote(self) -> bool:
        """True."""
        return True

    def put(self, key: str, parts: Iterable[bytes]) -> None:
        """Write one object: 1 PUT up to 256 MiB, a multipart upload above."""
        every = list(parts)
        if sum(map(len, every)) > _MULTIPART_ABOVE:
            self.put_in_parts(key, every, _MULTIPART_CHUNK)
            return
        with self._errors("write", key):
            obstore.put(self._store, check_key(key), every, use_multipart=False)

    def put_in_parts(self, key: str, parts: Sequence[bytes], chunk_bytes: int = _MULTIPART_CHUNK) -> None:
        """Write one object by a multipart upload, however small it is."""
        with self._errors("write", key):
            obstore.put(
                self._store,
                check_key(key),
                iter(parts),
                use_multipart=True,
                chunk_size=chunk_bytes,
                max_concurrency=4,
            )

    def create(self, key: str, data: bytes) -> bool:
        """Write one object unless it is there: 1 PUT with ``If-None-Match: *``."""
        with self._errors("write", key):
            try:
                obstore.put(self._store, check_key(key), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
        return True

    def install(self, source: str, target: str, size: int) -> None:
        """Copy an object inside the store: 1 PUT, or read and written again in parts when it is too large for that."""
        with self._errors("read", source):
            if size <= _COPY_LIMIT:
                obstore.copy(self._store, check_key(source), check_key(target))
                return
            parts = self._parts(source, size)
            obstore.put(
                self._store, check_key(target), parts, use_multipart=True, chunk_size=_LARGE_CHUNK, max_concurrency=4
            )

    def _parts(self, key: str, size: int) -> Iterator[bytes]:
        """Yield an object in parts, read by another thread: obstore takes them while this one drives its runtime."""
        with ThreadPoolExecutor(1) as pool:
            for start in range(0, size, _LARGE_CHUNK):
                yield pool.submit(self.get_range, key, start, min(_LARGE_CHUNK, size - start)).result()

    def get(self, key: str) -> bytes:
        """Return a whole object."""
        with self._errors("read", key):
            return obstore.get(self._store, check_key(key)).bytes().to_bytes()

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start`."""
        if length == 0:
            return b""
        with self._errors("read", key):
            data = obstore.get_range(self._store, check_key(key), start=start, length=length).to_bytes()
        return _exactly(data, key, start, length)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> builtins.list[bytes]:
        """Return several ``(start, length)`` of one object, fetched in parallel."""
        wanted = [(start, length) for start, length in ranges if length]
        with self._errors("read", key):
            starts, lengths = [start for start, _ in wanted], [length for _, length in wanted]
            found = (
                obstore.get_ranges(self._store, check_key(key), starts=starts, lengths=lengths, coalesce=0) if wanted else []
            )
        data = iter(found)
        return [_exactly(next(data).to_bytes(), key, start, length) if length else b"" for start, length in ranges]

    def head(self, key: str) -> ObjectInfo:
        """Return the size of an object."""
        with self._errors("read", key):
            return ObjectInfo(key=key, size=obstore.head(self._store, check_key(key))["size"])

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        """Return the objects below the folder `prefix`, sorted by key."""
        with self._errors("list", prefix):
            found = obstore.list(self._store, prefix.strip("/") or None).collect()
        return sorted(map(_info, found), key=lambda info: info.key)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, in bulk where the store can; one that is missing is no error."""
        gone = [check_key(key) for key in keys]
        if not gone:
            return
        with self._errors("delete", gone[0]):
            try:
                obstore.delete(self._store, gone)
            except FileNotFoundError as error:
                if _found(_CODE, str(error)) in _NO_BUCKET:
                    raise
                # A store without bulk deletes stops at a key that is missing.
                for key in gone:
                    with suppress(FileNotFoundError):
                        obstore.delete(self._store, key)

    def delete_prefix(self, prefix: str) -> int:
        """Delete the objects below the folder `prefix`."""
        keys = [info.key for info in self.list(prefix)]
        self.delete(keys)
        return len(keys)

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            # The original is chained unless its text holds a secret.
            cause = error if self._scrub(str(error)) == str(error) else None
            raise self._translated(error, action, key) from cause

    def _translated(self, error: Exception, action: str, key: str) -> FrazilError:
        text, place = str(error), f"{self._url}/{key}" if key else self._url
        first = text.partition("\n\nDebug source")[0].strip()
        status, code = _found(_STATUS, first), _found(_CODE, text)
        words, shown = _NOISE.sub("", first).lower(), self._scrub(first)[:300]
        if code in _NO_BUCKET:
            return StorageError(f"the bucket of {self._url} does not exist: create it, or correct the store's URL")
        if isinstance(error, FileNotFoundError):
            return BlockError(f"object {key} is missing in {self._url}")
        if status == "416":
            return BlockError(f"object {key} in {self._url} is shorter than the range to read")
        if status == "507" or any(word in words for word in _FULL):
            return StorageFullError(f"no space to write {place}: free space or raise the quota, or choose another store")
        refused = status in ("401", "403") or code in _REFUSED or any(word in words for word in _NO_CREDENTIALS)
        if refused or isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
            return StorageError(
                f"{self._url} refused to {action}: check the credentials in the storage options (for S3 aws_access_key_id, "
                "aws_secret_access_key, aws_region), and that they may read, write, list and delete here"
            )
        if not status and any(word in words for word in _UNREACHABLE):
            return StorageError(f"can't reach {self._url}: check the endpoint (aws_endpoint_url) and the network ({shown})")
        return StorageError(f"can't {action} {place}: {shown}")

    def _scrub(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _info(meta: ObjectMeta) -> ObjectInfo:
    return ObjectInfo(key=meta["path"], size=meta["size"], modified_unix_s=meta["last_modified"].timestamp())


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""


def _secrets(options: Mapping[str, str]) -> tuple[str, ...]:
    given = [value for name, value in options.items() if any(word in name.lower() for word in _SECRET_WORDS)]
    ambient = [os.environ.get(name, "") for name in _SECRET_ENV]
    return tuple(value for value in [*given, *ambient] if value)


def _split_options(options: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str | bool], int]:
    """Part polars' storage options into obstore's configuration, its HTTP client's options, and the number of retries."""
    config: dict[str, str] = {}
    client: dict[str, str | bool] = {"connect_timeout": "3s", "read_timeout": "30s", "timeout": "60s"}
    retries = 3
    for name, value in options.items():
        bare = name.lower()
        for vendor in ("aws_", "google_", "azure_"):
            bare = bare.removeprefix(vendor)
        if bare == "max_retries":
            retries = int(value)
        elif bare in _CLIENT_KEYS:
            client[bare] = value.lower() == "true" if bare.startswith(("allow_", "http1", "http2")) else value
        elif bare not in _POLARS_KEYS:
            config[name.lower()] = value
    return config, client, retries


def _exactly(data: bytes, key: str, start: int, length: int) -> bytes:
    if len(data) != length:
        raise BlockError(f"object {key} ends before byte {start + length}")
    return data
