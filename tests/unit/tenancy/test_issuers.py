"""Issuers of tokens in a file of tenants: what a table gives, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from frazil_coordinator.tenancy import Issuer, Role, Tenants, read_tenants
from frazil_functions.errors import RequestError

GOOD = """
[tenants.a]
[[issuers]]
issuer = "https://login.example/realms/data"
audience = "frazil"
tenant = "a"
role = "read"
"""


def read(folder: Path, text: str) -> Tenants:
    file = folder / "tenants.toml"
    file.write_text(text)
    return read_tenants(file)


def test_a_file_gives_issuers_and_needs_no_token_then(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("")
    tenants = read(
        tmp_path,
        GOOD
        + f"""
        [[issuers]]
        issuer = "https://other.example/"
        audience = ["frazil", "https://frazil.example"]
        jwks_url = "https://other.example/keys?v=1"
        algorithms = ["ES256", "PS512"]
        leeway_s = 0
        tenant_claim = ["org", "team"]
        role_claim = "groups"
        keys_max_age_s = 600
        keys_retry_s = 2.5
        timeout_s = 1
        ca_file = "{authority}"
        tenants = {{ red = "a" }}
        roles = {{ ops = "admin" }}
        """,
    )
    assert tenants.guarded
    assert tenants.issuers == (
        Issuer(issuer="https://login.example/realms/data", audience=("frazil",), tenant="a", role=Role.READ),
        Issuer(
            issuer="https://other.example/",
            audience=("frazil", "https://frazil.example"),
            jwks_url="https://other.example/keys?v=1",
            algorithms=("ES256", "PS512"),
            leeway_s=0.0,
            tenant_claim=("org", "team"),
            tenants={"red": "a"},
            role_claim=("groups",),
            roles={"ops": Role.ADMIN},
            keys_max_age_s=600.0,
            keys_retry_s=2.5,
            timeout_s=1.0,
            ca_file=str(authority),
        ),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[issuers]]", "[issuers]", r"issuers must be tables \[\[issuers\]\]"),
        ('issuer = "https://login.example/realms/data"', "", r"\[issuers, number 1\] issuer is missing"),
        ('audience = "frazil"', "", r"\[issuers, number 1\] audience is missing"),
        ('"https://login', '"http://login', r"\[issuers, number 1\] issuer must begin with https://"),
        ('"https://login', '"ftp://login', r"issuer must be a URL https://"),
        ('"https://login', '"login', r"issuer must be a URL https://"),
        ('"https://login', '"https://ann:secret@login', r"issuer must hold no user and no password$"),
        ("realms/data", "realms?data=1", r"issuer must be a URL"),
        ("login.example", "login.example:x", r"issuer is no URL"),
        ('"frazil"', '""', r"audience must hold at least one text"),
        ('"frazil"', "[]", r"audience must hold at least one text"),
        ('"frazil"', "7", r"audience: Expected"),
        ('role = "read"', 'role = "root"', r"role: Invalid enum value"),
        ('role = "read"', "", r"role, or role_claim with roles, is needed"),
        ('role = "read"', 'role_claim = "groups"', r"roles is needed with role_claim"),
        ('role = "read"', 'role_claim = ""\nroles = {x = "read"}', r"role_claim must hold at least one text"),
        ('role = "read"', 'role_claim = "groups"\nroles = {x = "root"}', r"roles: Invalid enum value"),
        ('role = "read"', 'role = "read"\nroles = {x = "read"}', r"roles has no effect without role_claim"),
        ('tenant = "a"', "", r"tenant or tenant_claim is needed, and not both"),
        ('tenant = "a"', 'tenant = "a"\ntenant_claim = "x"', r"tenant or tenant_claim is needed, and not both"),
        ('tenant = "a"', 'tenant = "a"\ntenants = {x = "a"}', r"tenants has no effect without tenant_claim"),
        ('tenant = "a"', 'tenant = "b"', r"\[\[issuers\]\] https://login.example/realms/data there is no tenant 'b'"),
        ('tenant = "a"', 'tenant_claim = "x"\ntenants = {x = "b"}', r"there is no tenant 'b': there are a"),
        ('tenant = "a"', "tenant_claim = []", r"tenant_claim must hold at least one text"),
        ('role = "read"', 'role = "read"\nalgorithms = []', r"algorithms must hold at least one text"),
        ('role = "read"', 'role = "read"\nalgorithms = ["none"]', r"algorithms must be of RS256, .*, not 'none'"),
        ('role = "read"', 'role = "read"\nalgorithms = ["RS256", "HS256"]', r"algorithms must be of .*, not 'HS256'"),
        ('role = "read"', 'role = "read"\nleeway_s = 301', r"leeway_s must be from 0 to 300 seconds, not 301"),
        ('role = "read"', 'role = "read"\nleeway_s = nan', r"leeway_s must be from 0 to 300 seconds"),
        ('role = "read"', 'role = "read"\nkeys_max_age_s = 1', r"keys_max_age_s must be from 60 to"),
        ('role = "read"', 'role = "read"\nkeys_retry_s = 0', r"keys_retry_s must be from 1 to 1800 seconds"),
        ('role = "read"', 'role = "read"\ntimeout_s = 0', r"timeout_s must be from"),
        ('role = "read"', 'role = "read"\njwks_url = "http://keys.example/"', r"jwks_url must begin with https://"),
        ('role = "read"', 'role = "read"\nca_file = "/nowhere.pem"', r"ca_file: there is no file /nowhere.pem"),
        ('role = "read"', 'role = "read"\nsecret = "x"', r"\[issuers, number 1\] secret is unknown"),
    ],
)
def test_an_error_of_an_issuer_names_file_table_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RequestError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'tenants.toml'}: ")
    assert str(caught.value).count("tenants.toml") == 1
    assert "secret@" not in str(caught.value)


def test_an_issuer_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"\[\[issuers\]\] https://login.example/realms/data is there twice"):
        read(tmp_path, GOOD + GOOD.replace("[tenants.a]", ""))


def test_this_machine_may_be_asked_without_tls(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:8000", "http://localhost/x", "http://[::1]:1/"):
        assert read(tmp_path, GOOD.replace("https://login.example/realms/data", url)).issuers[0].issuer == url
