"""With which secrets a journal is sealed: those of the operator, or one that lies beside a journal in a folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from frazil_functions.errors import StorageError

__all__ = ["journal_keys"]

_KEY_FILE: Final = ".frazil-journal-key"
_KEY_BYTES: Final = 32


def journal_keys(store_url: str, given: Sequence[str]) -> tuple[str, ...]:
    """Return the secrets; none when there are none for a store that others can read.

    A folder is as private as its owner has made it, and so is a key in it: one is made there, for its owner only, where the
    operator gives none. In a bucket it would lie open to whoever may read the bucket.

    Parameters
    ----------
    store_url
        Path, ``file://`` URL or URL of the exchange store.
    given
        The operator's.

    Raises
    ------
    StorageError
        When the key of a folder can't be made or read.
    """
    if given:
        return tuple(given)
    if "://" in store_url and not store_url.startswith("file://"):
        return ()
    folder = Path(unquote(urlsplit(store_url).path) if "://" in store_url else store_url).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (_key_of(folder / _KEY_FILE),)
    except OSError as error:
        raise StorageError(f"the key of the journal in {folder} can't be made or read: {error}") from error


def _key_of(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        key = path.read_text(encoding="ascii").strip()
        if not key:
            raise OSError(
                f"{path} is empty: delete it, and with it the queries that are sealed with the key it held"
            ) from None
        return key
    key = secrets.token_hex(_KEY_BYTES)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key)
        file.flush()
        os.fsync(file.fileno())
    return key
