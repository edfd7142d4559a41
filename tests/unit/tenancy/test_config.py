"""Tenants and tokens, and the file that they are read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from frazil_coordinator.tenancy import DEFAULT_TENANT, Role, Tenant, Tenants, Token, read_tenants
from frazil_coordinator.tenancy.model import digest_of
from frazil_functions.errors import RequestError

HASH = digest_of("secret")
TOKEN = f'[[tokens]]\nsha256 = "{HASH}"\ntenant = "a"\nrole = "submit"\n'


def read(folder: Path, text: str) -> Tenants:
    file = folder / "tenants.toml"
    file.write_text(text)
    return read_tenants(file)


def test_a_file_gives_tenants_with_their_quotas_and_tokens_with_their_roles(tmp_path: Path) -> None:
    tenants = read(
        tmp_path,
        """
        [tenants.a]
        weight = 2
        max_running_tasks = 8
        max_running_queries = 2
        max_queued_queries = 0
        highest_priority = -1
        allowed_prefixes = ["s3://lake/a/", "/data/a"]
        allowed_catalogs = ["lake"]
        allowed_storages = []
        allow_udfs = true
        [tenants.b]
        """
        + TOKEN,
    )
    assert tenants.get("a") == Tenant(
        name="a",
        weight=2.0,
        max_running_tasks=8,
        max_running_queries=2,
        max_queued_queries=0,
        highest_priority=-1,
        allowed_prefixes=("s3://lake/a/", "/data/a"),
        allowed_catalogs=("lake",),
        allowed_storages=(),
        allow_udfs=True,
    )
    assert tenants.get("b") == Tenant(name="b")
    assert tenants.tokens == (Token.of("secret", tenant="a", role=Role.SUBMIT),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tenants.a", "not TOML"),
        ("[tenant.a]\n" + TOKEN, "unknown: tenant;"),
        ("[tenants.a]\n", r"a token \[\[tokens\]\], an issuer \[\[issuers\]\] or a cluster \[kubernetes\] is needed"),
        (TOKEN, r"a tenant \[tenants.NAME\] is needed"),
        ("tenants = 3\n" + TOKEN, "tenants must be a table"),
        ("[tenants]\na = 3\n" + TOKEN, "tenants.a must be a table"),
        ("[tenants.a]\nweigth = 1\n" + TOKEN, r"\[tenants.a\] weigth is unknown"),
        ('[tenants.a]\nweight = "x"\n' + TOKEN, r"\[tenants.a\] weight: Expected"),
        ("[tenants.a]\nweight = 0\n" + TOKEN, r"\[tenants.a\] weight must be above 0"),
        ("[tenants.a]\nweight = nan\n" + TOKEN, r"\[tenants.a\] weight must be above 0"),
        ("[tenants.a]\nweight = true\n" + TOKEN, r"\[tenants.a\] weight: Expected"),
        ("[tenants.a]\nmax_running_tasks = 0\n" + TOKEN, r"\[tenants.a\] max_running_tasks must be at least 1"),
        ("[tenants.a]\nmax_running_tasks = 1.5\n" + TOKEN, r"\[tenants.a\] max_running_tasks: Expected"),
        ("[tenants.a]\nmax_running_queries = 0\n" + TOKEN, r"\[tenants.a\] max_running_queries must be at least 1"),
        ("[tenants.a]\nmax_queued_queries = 3\n" + TOKEN, r"\[tenants.a\] max_queued_queries has no effect"),
        ("[tenants.a]\nhighest_priority = 11\n" + TOKEN, r"\[tenants.a\] highest_priority must be from -10 to 10"),
        ('[tenants.a]\nallowed_prefixes = ["data/a"]\n' + TOKEN, r"\[tenants.a\] allowed_prefixes 'data/a' is no folder"),
        ('[tenants.a]\nallowed_prefixes = "/data"\n' + TOKEN, r"\[tenants.a\] allowed_prefixes: Expected"),
        ('[tenants.a]\nallow_udfs = "yes"\n' + TOKEN, r"\[tenants.a\] allow_udfs: Expected"),
        ("[tenants.b]\n" + TOKEN, r"\[\[tokens\]\] there is no tenant 'a'"),
        ("[tenants.a]\n" + TOKEN + TOKEN, r"\[\[tokens\]\] sha256 .* is there twice"),
        ("[tenants.a]\n" + TOKEN.replace(HASH, HASH.upper()), r"\[tokens, number 1\] sha256 must be 64"),
        ("[tenants.a]\n" + TOKEN.replace("submit", "root"), r"\[tokens, number 1\] role: Invalid enum value"),
        ('[tenants.a]\n[[tokens]]\ntenant = "a"\nrole = "read"\n', r"\[tokens, number 1\] sha256 is missing"),
        ("[tenants.a]\n" + TOKEN + 'name = "x"\n', r"\[tokens, number 1\] name is unknown"),
    ],
)
def test_an_error_of_a_file_names_file_table_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'tenants.toml'}: ")
    assert str(caught.value).count("tenants.toml") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere\.toml: can't be read"):
        read_tenants(tmp_path / "nowhere.toml")


def test_without_a_file_there_is_one_tenant_without_limits() -> None:
    assert Tenants().get(DEFAULT_TENANT) == Tenant(name=DEFAULT_TENANT, allow_udfs=True)


def test_a_tenant_that_is_not_in_the_file_any_more_has_no_rights() -> None:
    gone = Tenants().get("gone")
    assert (gone.allowed_prefixes, gone.allow_udfs, gone.highest_priority) == ((), False, -10)


def test_a_token_is_known_by_its_hash_only() -> None:
    token = Token.of("secret")
    assert "secret" not in repr(token)
    assert token.is_of(digest_of("secret"))
    assert not token.is_of(digest_of("secreT"))
