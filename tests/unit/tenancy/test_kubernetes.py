"""A Kubernetes cluster in a file of tenants: what its tables give, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from frazil_coordinator.tenancy import Binding, Issuer, Kubernetes, Role, Tenant, Tenants, read_tenants
from frazil_functions.errors import RequestError

GOOD = """
[tenants.a]
[kubernetes]
audiences = ["frazil"]
token_file = "FOLDER/token"
ca_file = "FOLDER/ca.crt"
[[kubernetes.bindings]]
service_account = "etl:runner"
tenant = "a"
role = "submit"
"""


def read(folder: Path, text: str) -> Tenants:
    for name in ("token", "ca.crt"):
        (folder / name).write_text("")
    file = folder / "tenants.toml"
    file.write_text(text.replace("FOLDER", str(folder)))
    return read_tenants(file)


def test_a_file_gives_a_cluster_and_needs_no_token_then(tmp_path: Path) -> None:
    more = """
    [[kubernetes.bindings]]
    group = "system:serviceaccounts:bi"
    tenant = "a"
    role = "read"
    """
    knobs = """
    issuer = "https://cluster"
    api_url = "https://10.0.0.1:6443"
    cache_s = 5
    timeout_s = 2.5
    [[kubernetes.bindings]]
    """
    tenants = read(tmp_path, GOOD.replace("[[kubernetes.bindings]]", knobs) + more)
    assert tenants.guarded
    assert tenants.kubernetes == Kubernetes(
        audiences=("frazil",),
        bindings=(
            Binding(service_account="etl:runner", tenant="a", role=Role.SUBMIT),
            Binding(group="system:serviceaccounts:bi", tenant="a", role=Role.READ),
        ),
        issuer="https://cluster",
        api_url="https://10.0.0.1:6443",
        token_file=f"{tmp_path}/token",
        ca_file=f"{tmp_path}/ca.crt",
        cache_s=5.0,
        timeout_s=2.5,
    )


def test_a_pod_finds_its_cluster_where_kubernetes_puts_it() -> None:
    made = Kubernetes(audiences=("x",), bindings=(Binding(group="g", tenant="a", role=Role.READ),))
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert (made.api_url, made.token_file, made.ca_file) == (
        "https://kubernetes.default.svc",
        f"{folder}/token",
        f"{folder}/ca.crt",
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[kubernetes]", "[cluster]", r"unknown: cluster; there are the tables .* and \[kubernetes\]"),
        ('audiences = ["frazil"]', "", r"\[kubernetes\] audiences is missing"),
        ('["frazil"]', "[]", r"\[kubernetes\] audiences must hold at least one text"),
        ('["frazil"]', '"frazil"', r"\[kubernetes\] audiences: Expected"),
        ('token_file = "FOLDER/token"', 'token_file = "/nowhere/token"', r"token_file: there is no file /nowhere/token"),
        ('token_file = "FOLDER/token"', "", r"token_file: there is no file /var/run/secrets/kubernetes.io"),
        ('ca_file = "FOLDER/ca.crt"', "", r"ca_file: there is no file /var/run/secrets/kubernetes.io"),
        ('"etl:runner"', '"etl/runner"', r"\[kubernetes.bindings, number 1\] service_account must be 'namespace:name'"),
        ('"etl:runner"', '"system:serviceaccount:etl:runner"', r"service_account must be 'namespace:name'"),
        ('"etl:runner"', '"etl:*"', r"service_account must be 'namespace:name'"),
        ('service_account = "etl:runner"', "", r"service_account or group is needed, and not both"),
        ('"etl:runner"', '"etl:runner"\ngroup = "x"', r"service_account or group is needed, and not both"),
        ('service_account = "etl:runner"', 'group = ""', r"group must hold at least one text"),
        ('tenant = "a"', "", r"\[kubernetes.bindings, number 1\] tenant is missing"),
        ('tenant = "a"', 'tenant = "b"', r"\[\[kubernetes.bindings\]\] there is no tenant 'b': there are a"),
        ('role = "submit"', "", r"\[kubernetes.bindings, number 1\] role is missing"),
        ('role = "submit"', 'role = "root"', r"role: Invalid enum value"),
        ('role = "submit"', 'role = "submit"\nuser = "x"', r"\[kubernetes.bindings, number 1\] user is unknown"),
        ("[kubernetes]", '[kubernetes]\napi_url = "http://10.0.0.1"', r"\[kubernetes\] api_url must begin with https://"),
        ("[kubernetes]", "[kubernetes]\ncache_s = 601", r"\[kubernetes\] cache_s must be from 0 to 600 seconds"),
        ("[kubernetes]", "[kubernetes]\ntimeout_s = 0", r"\[kubernetes\] timeout_s must be from"),
        ("[kubernetes]", '[kubernetes]\nissuer = ""', r"\[kubernetes\] issuer must hold"),
        ("[kubernetes]", '[kubernetes]\ntoken = "secret"', r"\[kubernetes\] token is unknown"),
    ],
)
def test_an_error_of_a_cluster_names_file_table_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(RequestError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new, 1))
    assert str(caught.value).startswith(f"{tmp_path / 'tenants.toml'}: ")
    assert str(caught.value).count("tenants.toml") == 1


def test_a_cluster_that_nobody_is_bound_to_is_refused(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("[[kubernetes.bindings]]")]
    with pytest.raises(RequestError, match=r"\[kubernetes\] bindings is missing"):
        read(tmp_path, text)
    with pytest.raises(RequestError, match=r"bindings \[\[kubernetes.bindings\]\] are needed"):
        read(tmp_path, text + "bindings = []\n")


def test_an_issuer_that_is_the_cluster_s_too_is_refused() -> None:
    binding = Binding(group="g", tenant="a", role=Role.READ)
    with pytest.raises(RequestError, match=r"\[kubernetes\] issuer https://x is one of \[\[issuers\]\] too"):
        Tenants(
            by_name={"a": Tenant(name="a")},
            issuers=(Issuer(issuer="https://x", audience=("y",), tenant="a", role=Role.READ),),
            kubernetes=Kubernetes(audiences=("y",), bindings=(binding,), issuer="https://x"),
        )
