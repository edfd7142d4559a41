"""What is sealed can be read with its key and for its purpose, and in no other way."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from frazil_coordinator.journal.sealing import SEAL_MAGIC, Sealer
from frazil_functions.errors import JournalError

OLD, NEW = "the old secret, long enough", "the new secret, long enough"
SECRET_VALUE = b"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI"


@pytest.mark.parametrize("data", [b"", b"x", SECRET_VALUE, bytes(1_000_000)])
def test_what_was_sealed_is_unsealed(data: bytes) -> None:
    sealed = Sealer.of([OLD]).seal(data, context="q1/plan")
    assert Sealer.of([OLD]).unseal(sealed, context="q1/plan") == data
    assert len(sealed) == 30 + len(data) + 16


def test_nothing_of_it_is_readable() -> None:
    sealer = Sealer.of([OLD])
    sealed = sealer.seal(SECRET_VALUE, context="q1/plan")
    assert not any(SECRET_VALUE[at : at + 4] in sealed for at in range(len(SECRET_VALUE) - 3))
    assert OLD not in repr(sealer)
    assert repr(sealer.keys[0].key) not in repr(sealer) + repr(sealer.keys)


def test_two_seals_of_the_same_are_different() -> None:
    sealer = Sealer.of([OLD])
    assert len({sealer.seal(b"same", context="c") for _ in range(50)}) == 50


def test_the_bytes_are_those_that_the_page_specifies() -> None:
    """By hand: HKDF (RFC 5869) out of HMAC, and AES-GCM over the header and the context."""
    sealed = Sealer.of([OLD]).seal(SECRET_VALUE, context="q1/ä")
    extracted = hmac.digest(bytes(32), OLD.encode(), "sha256")
    key = hmac.digest(extracted, b"frazil journal v1\x01", "sha256")
    assert sealed[:10] == b"FRZSEAL\0\x01\x00"
    assert sealed[10:18] == hashlib.sha256(key).digest()[:8]
    assert AESGCM(key).decrypt(sealed[18:30], sealed[30:], sealed[:30] + "q1/ä".encode()) == SECRET_VALUE


def test_an_object_of_version_1_is_unsealed_for_ever() -> None:
    sealed = bytes.fromhex(GOLDEN)
    assert Sealer.of([OLD]).unseal(sealed, context="golden/plan") == b"written by version 1"


GOLDEN = (
    "46525a5345414c000100b9b815675fbdf8aa34d53b406ec36125ee6f979dda9169b5d39a58581929"
    "e266f8a51231b826213a241ff1c74e88e370059ee30f07a78a8f"
)


def test_keys_rotate() -> None:
    before, between, after = Sealer.of([OLD]), Sealer.of([NEW, OLD]), Sealer.of([NEW])
    old = before.seal(b"data", context="c")
    new = between.seal(b"data", context="c")
    assert between.unseal(old, context="c") == between.unseal(new, context="c") == b"data"
    assert after.unseal(new, context="c") == b"data"
    with pytest.raises(JournalError, match=f"sealed with the key {before.keys[0].id.hex()}.*add the secret of that key"):
        after.unseal(old, context="c")


def test_another_context_is_refused() -> None:
    sealed = Sealer.of([OLD]).seal(b"data", context="q1/plan")
    with pytest.raises(JournalError, match="q2/plan was changed since it was sealed, or sealed as something else"):
        Sealer.of([OLD]).unseal(sealed, context="q2/plan")


def test_every_changed_byte_is_noticed() -> None:
    sealer = Sealer.of([OLD])
    sealed = sealer.seal(b"data", context="c")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(JournalError):
            sealer.unseal(bytes(changed), context="c")


def test_an_object_that_is_cut_off_is_noticed() -> None:
    sealer = Sealer.of([OLD])
    sealed = sealer.seal(b"data", context="c")
    for length in range(len(sealed)):
        with pytest.raises(JournalError):
            sealer.unseal(sealed[:length], context="c")


def test_another_version_says_what_to_do() -> None:
    with pytest.raises(JournalError, match="version 2, and this coordinator reads version 1: let a coordinator"):
        Sealer.of([OLD]).unseal(SEAL_MAGIC + b"\x02\x00" + bytes(60), context="c")


@pytest.mark.parametrize("keys", [[], [""], ["short"], [OLD, "short"], OLD])
def test_no_key_or_a_short_one_is_refused(keys: list[str]) -> None:
    with pytest.raises(JournalError, match="key"):
        Sealer.of(keys)
